"""The end of ``make demo``: a person asks an assistant for things, and it uses the provider's tools through the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from devstack.demo.screen import Screen
from devstack.demo.workload import CONNECTION, Team
from devstack.errors import StackError
from devstack.mcp_client import McpClient, ToolRefused

BROKEN = "spare"


class Conversation:
    """Prints each turn: what the person wants, which tool the assistant calls, and what the tool answers."""

    def __init__(self, client: McpClient, screen: Screen) -> None:
        self._client = client
        self._screen = screen

    def person(self, says: str) -> None:
        self._screen.say(f"  person     {says}")

    async def assistant(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Calls the tool and returns its answer. Raises `StackError` if the tool refuses."""
        self._call(tool, arguments)
        try:
            answer = await self._client.call(tool, arguments)
        except ToolRefused as refusal:
            raise StackError(f"the tool {tool} refused: {refusal}") from None
        for line in _in_words(answer):
            self._answer(line)
        return answer

    async def assistant_is_refused(self, tool: str, /, **arguments: Any) -> None:
        """Calls the tool, which has to refuse."""
        self._call(tool, arguments)
        try:
            answer = await self._client.call(tool, arguments)
        except ToolRefused as refusal:
            self._answer(f"refused: {refusal}")
            return
        raise StackError(f"the tool {tool} should have refused, but it answered {answer}")

    def _call(self, tool: str, arguments: Mapping[str, Any]) -> None:
        shown = json.dumps(arguments, ensure_ascii=False) if arguments else ""
        self._screen.say(f"  assistant  {self._client.prefix}{tool} {shown}".rstrip())

    def _answer(self, words: str) -> None:
        self._screen.say(f"  tool       {words}")


async def converse(client: McpClient, team: Team, screen: Screen) -> None:
    """Lists, creates, explains, waits, plans and deletes. Raises `StackError` if something does not go as it should."""
    talk = Conversation(client, screen)
    owner, name = team.account.owner, team.conversed

    talk.person("Which repositories do we have?")
    await talk.assistant("list_repositories")

    talk.person(
        f"Make one named {name}, with a key for the build" + (f", and let {team.guest} read it." if team.guest else ".")
    )
    wanted: dict[str, Any] = {"name": name, "connectionRef": CONNECTION, "deployKeys": [{"title": "build"}]}
    if team.guest:
        wanted["collaborators"] = [{"username": team.guest, "permission": "pull"}]
    created = await talk.assistant("create_repository", **wanted)
    guests = created.get("collaborators", [])
    waited = await talk.assistant("wait_for", kind="Repository", name=name)
    if not waited["met"]:
        raise StackError(f"Repository/{name} is not Ready: {waited}")

    talk.person("Connect our second account, too. Its token is in the Secret spare-token.")
    await talk.assistant("create_connection", name=BROKEN, owner=owner, secretName="spare-token")
    talk.person("Why does that not work?")
    explained = await talk.assistant("explain", kind="Connection", name=BROKEN)
    if explained["ready"] or explained["whoMustAct"] != "workspace":
        raise StackError(f"the Connection without a Secret is explained as {explained}")

    talk.person(f"Then leave it. What would be lost if you deleted {name}?")
    await talk.assistant("delete_repository", name=name, plan=True)
    talk.person(f"Delete it, with the key{' and the guest' if guests else ''}. It is {owner}/nodes, is it not?")
    await talk.assistant_is_refused("delete_repository", name=name, confirm=f"{owner}/nodes")
    talk.person(f"I meant {owner}/{name}.")
    for key in created["deployKeys"]:
        await talk.assistant("delete_deploy_key", name=key["name"])
    for guest in guests:
        await talk.assistant("remove_collaborator", name=guest["name"])
    await talk.assistant("delete_repository", name=name, confirm=f"{owner}/{name}")
    gone = await talk.assistant("wait_for", kind="Repository", name=name, condition="Deleted")
    if not gone["met"]:
        raise StackError(f"Repository/{name} is not gone: {gone}")


def _in_words(answer: Mapping[str, Any]) -> list[str]:
    """The sentence of an answer where it has one, and a line for each object that it lists."""
    said = [str(answer[name]) for name in ("plan", "explanation", "message", "summary") if answer.get(name)][:1]
    for listed in ("repositories", "deployKeys", "collaborators"):
        for item in answer.get(listed, []):
            about = item.get("message") or ", ".join(f"{key} {value}" for key, value in item.items() if key != "name")
            said.append(f"- {item.get('kind', 'Repository')} {item['name']}: {about}")
    return said or [json.dumps(answer, ensure_ascii=False)]
