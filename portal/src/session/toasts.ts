const STACK = "pk-toasts";
const STAYS = 5_000;
const BAD_STAYS = 12_000;

/** Shows a message for a few seconds in the stack that all providers' pages share, and returns it. Screen readers read it out. */
export function showToast(message: string, tone: "good" | "bad" = "good"): HTMLElement {
  const toast = document.createElement("div");
  toast.className = `pc-toast pc-toast-${tone}`;
  toast.setAttribute("role", tone === "bad" ? "alert" : "status");
  toast.textContent = message;
  // A modal dialog is above everything else of the page, so a toast has to be in it to be seen.
  const dialog = [...document.querySelectorAll<HTMLDialogElement>("dialog.pc-dialog[open]")].at(-1);
  (dialog?.querySelector(".pc-dialog-toasts") ?? stack()).append(toast);
  setTimeout(() => toast.remove(), tone === "bad" ? BAD_STAYS : STAYS);
  return toast;
}

/** Keeps the toasts of a dialog that closes. */
export function releaseToasts(dialog: HTMLElement): void {
  const toasts = dialog.querySelectorAll(".pc-dialog-toasts > *");
  if (toasts.length) stack().append(...toasts);
}

function stack(): HTMLElement {
  const found = document.getElementById(STACK);
  if (found) return found;
  const made = document.createElement("div");
  made.id = STACK;
  made.setAttribute("aria-live", "polite");
  document.body.append(made);
  return made;
}
