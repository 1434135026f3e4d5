// Loads a provider's element as the hub's portal does (hub-contract.md §6.1). The rest is as little as that needs.

const REGISTER_MS = 5000;
const TILE_MS = 1500;
const CONFLICT_RETRIES_MS = [750, 1500, 2250, 3000, 3000];
const AUTH = "kedge-auth", TENANT = "kedge:portal:tenant", THEME = "kedge-theme";

const byId = (id) => document.getElementById(id);
const stored = (key) => {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
};

const state = {
  auth: stored(AUTH), // {token, user: {email, userId}}
  theme: localStorage.getItem(THEME) || "system",
  workspaces: [], // as the REST list has them, with orgName
  workspace: null,
  providers: [],
  enabled: {},
};

// The provider's element that is shown, where it is, and the context that it has as JSON.
let shown = null;
// Counts what the page has shown. What was begun for an earlier page stops.
let turn = 0;

// REST

async function api(path, { method = "GET", body, org, workspace } = {}) {
  const headers = { Authorization: `Bearer ${state.auth.token}` };
  if (org) headers["X-Kedge-Org"] = org;
  if (workspace) headers["X-Kedge-Workspace"] = workspace;
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  if (response.status === 401) {
    logOut();
    throw new Error("The session is over.");
  }
  if (!response.ok) {
    const status = await response.json().catch(() => null);
    const problem = new Error(status?.message || `${method} ${path}: ${response.status}`);
    problem.status = response.status;
    throw problem;
  }
  return response.status === 204 ? null : response.json();
}

const workspaceApi = (path, options = {}) => {
  const { orgUUID, uuid } = state.workspace;
  return api(`/api/orgs/${orgUUID}/workspaces/${uuid}/${path}`, { ...options, org: orgUUID, workspace: uuid });
};

async function logIn(token) {
  const response = await fetch("/auth/token-login", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
  if (!response.ok) throw new Error(response.status === 401 ? "The hub does not know this token." : `Login failed: ${response.status}`);
  const { email, userId } = await response.json();
  state.auth = { token, user: { email, userId } };
  localStorage.setItem(AUTH, JSON.stringify(state.auth));
}

function logOut() {
  state.auth = state.workspace = null;
  state.workspaces = [];
  localStorage.removeItem(AUTH);
  render();
}

async function loadWorkspaces() {
  const { items: orgs } = await api("/api/orgs");
  const lists = orgs.map(async (org) => {
    const { items } = await api(`/api/orgs/${org.uuid}/workspaces`, { org: org.uuid });
    return items.map((workspace) => ({ ...workspace, orgName: org.displayName }));
  });
  state.workspaces = (await Promise.all(lists)).flat();
  const last = stored(TENANT);
  const same = (it) => it.orgUUID === last?.orgUUID && it.uuid === last?.workspaceUUID;
  state.workspace = state.workspaces.find(same) || state.workspaces[0] || null;
}

async function loadProviders() {
  const catalogue = await fetch("/api/providers").then((response) => response.json());
  state.providers = catalogue.items;
  state.enabled = state.workspace ? (await workspaceApi("providers/enabled")).bindingNamesByProvider : {};
}

async function enable(provider) {
  const claims = (provider.permissionClaims || []).filter((claim) => claim.tenantScoped);
  const acceptedClaims = claims.map(({ group = "", resource }) => ({ group, resource }));
  for (const pause of [...CONFLICT_RETRIES_MS, null]) {
    try {
      return await workspaceApi(`providers/${provider.name}/enable`, { method: "POST", body: { acceptedClaims } });
    } catch (problem) {
      if (problem.status !== 409 || pause === null) throw problem;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

// A provider's element

function loadScript(name, version) {
  const id = `kedge-provider-script-${name}`;
  byId(id)?.remove();
  const script = document.createElement("script");
  script.id = id;
  script.async = true;
  script.src = `/ui/providers/${name}/main.js?v=${encodeURIComponent(version || "0")}`;
  const loaded = new Promise((resolve, reject) => {
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => reject(new Error(`${script.src} could not be loaded.`)));
  });
  document.head.append(script);
  return loaded;
}

function defined(tag, milliseconds) {
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`${tag} was not registered within ${milliseconds / 1000} s.`)), milliseconds);
  });
  return Promise.race([customElements.whenDefined(tag), late]);
}

function tileContext(name) {
  return {
    token: state.auth.token,
    user: { ...state.auth.user },
    tenant: state.workspace?.clusterName || "",
    theme: state.theme,
    basePath: `/ui/providers/${name}`,
  };
}

const frameContext = (name, subPath) => ({
  ...tileContext(name),
  subPath,
  orgUUID: state.workspace?.orgUUID || "",
  workspaceUUID: state.workspace?.uuid || "",
});

// The context is set after the element is in the page, as in the hub.
function mount(name, subPath, container) {
  const element = document.createElement(`kedge-provider-${name}`);
  container.replaceChildren(element);
  shown = { name, element, container, context: "" };
  giveContext(frameContext(name, subPath));
}

// A new object for every change, and none without a change.
function giveContext(context) {
  const text = JSON.stringify(context);
  if (text === shown.context) return;
  shown.context = text;
  shown.element.kedgeContext = context;
}

async function showProvider(name, subPath) {
  if (shown?.name === name && shown.element.isConnected) {
    giveContext(frameContext(name, subPath));
    return;
  }
  const mine = ++turn;
  const container = document.createElement("div");
  container.id = "provider";
  container.addEventListener("kedge-navigate", (event) => {
    if (typeof event.detail?.path === "string") go(`/ui/providers/${name}/${event.detail.path.replace(/^\//, "")}`);
  });
  byId("main").replaceChildren(container);
  try {
    await loadScript(name, state.providers.find((it) => it.name === name)?.version);
    await defined(`kedge-provider-${name}`, REGISTER_MS);
    if (mine === turn) mount(name, route().subPath, container);
  } catch (problem) {
    if (mine === turn) container.replaceChildren(problemText(problem));
  }
}

// The dashboard

async function showTile(provider, container) {
  const tag = `kedge-dashboard-tile-${provider.name}`;
  try {
    if (!customElements.get(tag) && !byId(`kedge-provider-script-${provider.name}`)) {
      await loadScript(provider.name, provider.version);
    }
    await defined(tag, TILE_MS);
    const element = document.createElement(tag);
    container.replaceChildren(element);
    element.kedgeContext = tileContext(provider.name);
  } catch {
    const link = document.createElement("a");
    link.href = `/ui/providers/${provider.name}/`;
    link.textContent = `Open ${provider.displayName}`;
    container.replaceChildren(link);
  }
}

function showDashboard() {
  turn++;
  shown = null;
  const heading = document.createElement("h1");
  heading.textContent = "Dashboard";
  const tiles = document.createElement("div");
  tiles.className = "tiles";
  for (const provider of state.providers) {
    const tile = document.createElement("section");
    tile.className = "tile";
    tile.dataset.provider = provider.name;
    const title = document.createElement("h2");
    title.textContent = provider.displayName;
    const content = document.createElement("div");
    tile.append(title, content, choice(provider));
    tiles.append(tile);
    if (usable(provider)) showTile(provider, content);
  }
  byId("main").replaceChildren(heading, tiles);
}

function choice(provider) {
  const on = provider.name in state.enabled;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = on ? "Disable" : "Enable";
  button.disabled = !state.workspace;
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await (on ? workspaceApi(`providers/${provider.name}/disable`, { method: "POST" }) : enable(provider));
      await loadProviders();
      render();
    } catch (problem) {
      button.disabled = false;
      button.after(problemText(problem));
    }
  });
  return button;
}

// The page

const usable = (provider) => provider.ready && provider.hasUI && provider.name in state.enabled;

function route() {
  const [, name, subPath] = location.pathname.match(/^\/ui\/providers\/([^/]+)\/?(.*)$/) || [];
  return name ? { name, subPath: decodeURIComponent(subPath) } : null;
}

function go(path) {
  history.pushState(null, "", path);
  render();
}

function problemText(problem) {
  const text = document.createElement("p");
  text.className = "problem";
  text.setAttribute("role", "alert");
  text.textContent = problem.message;
  return text;
}

function applyTheme() {
  const light = state.theme === "light" || (state.theme === "system" && matchMedia("(prefers-color-scheme: light)").matches);
  document.documentElement.classList.toggle("light", light);
  byId("theme").value = state.theme;
}

function renderNavigation() {
  const list = document.createElement("ul");
  const add = (parent, href, text) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = href;
    link.textContent = text;
    if (location.pathname === href) link.setAttribute("aria-current", "page");
    item.append(link);
    parent.append(item);
    return item;
  };
  add(list, "/ui/", "Dashboard");
  for (const provider of state.providers.filter(usable)) {
    const item = add(list, `/ui/providers/${provider.name}/`, provider.displayName);
    const children = document.createElement("ul");
    for (const child of provider.children || []) {
      add(children, `/ui/providers/${provider.name}/${child.builtinRoute}`, child.displayName);
    }
    item.append(children);
  }
  byId("nav").replaceChildren(list);
}

function renderWorkspaces() {
  const options = state.workspaces.map((workspace, index) => {
    const option = document.createElement("option");
    option.value = String(index);
    option.textContent = `${workspace.orgName} / ${workspace.displayName || workspace.uuid}`;
    option.selected = workspace === state.workspace;
    return option;
  });
  byId("workspace").replaceChildren(...options);
}

function render() {
  for (const id of ["nav", "logout", "workspace-control"]) byId(id).hidden = !state.auth;
  if (!state.auth) {
    turn++;
    shown = null;
    byId("main").replaceChildren(byId("login-form").content.cloneNode(true));
    byId("login").addEventListener("submit", submitLogin);
    return;
  }
  renderNavigation();
  renderWorkspaces();
  const here = route();
  if (here) showProvider(here.name, here.subPath);
  else showDashboard();
}

async function submitLogin(event) {
  event.preventDefault();
  try {
    await logIn(byId("token").value.trim());
    await start();
  } catch (problem) {
    const place = byId("login-problem");
    if (place) place.textContent = problem.message;
  }
}

async function selectWorkspace() {
  state.workspace = state.workspaces[Number(byId("workspace").value)];
  const { orgUUID, uuid } = state.workspace;
  localStorage.setItem(TENANT, JSON.stringify({ orgUUID, workspaceUUID: uuid }));
  // A new element, without loading the script anew.
  if (shown) mount(shown.name, route()?.subPath || "", shown.container);
  await loadProviders();
  render();
}

async function start() {
  if (state.auth) {
    await loadWorkspaces();
    await loadProviders();
  }
  render();
}

byId("theme").addEventListener("change", () => {
  state.theme = byId("theme").value;
  localStorage.setItem(THEME, state.theme);
  applyTheme();
  if (state.auth) render();
});
byId("workspace").addEventListener("change", selectWorkspace);
byId("logout").addEventListener("click", logOut);
document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("header a, nav a, .tile > div > a") : null;
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
addEventListener("popstate", render);
matchMedia("(prefers-color-scheme: light)").addEventListener("change", applyTheme);

applyTheme();
start().catch((problem) => byId("main").replaceChildren(problemText(problem)));
