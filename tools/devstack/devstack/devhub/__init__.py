"""A development hub: the part of the kedge hub that a provider and its tenants deal with, against a real kcp.

Same paths, status codes, bodies and objects as the hub. Differences, all deliberate:

- workspaces have type ``universal`` instead of the hub's own types;
- ``CatalogEntry`` is a CRD in each provider's workspace instead of an export of the hub, and only the entry that has
  the provider's name is followed;
- users, organisations and memberships are in memory (`devstack.devhub.tenancy`) and not in objects. There are the static
  users alone (`devstack.static_users`), without OIDC. A hub makes a user's personal organisation when it is first asked for;
- a member of a workspace may list its organisation's workspaces, and sees those that they are a member of;
- of organisations, workspaces and MCP servers there are the calls that read them. Workspaces are made in code
  (`DevHub.create_tenant`), and each has the MCP server ``default``;
- nothing limits the rate of logins, and the proxies pass no web sockets.
"""

from devstack.devhub.hub import DevHub as DevHub
