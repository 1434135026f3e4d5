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
- GraphQL is there if a `devstack.graphql.GraphqlGateway` runs beside the hub. Its schemas follow the bindings of the code
  provider's export alone, so a workspace without it has none at all. There is no playground;
- the page below ``/ui`` is not the portal. It loads a provider's element as the portal does, with the same names of theme
  properties and other values, and without the portal's component classes (``k-*``);
- the aggregate's own instructions and resource have other texts;
- nothing limits the rate of logins, the proxies pass no web sockets, and no proxy of the environment is used.

On a kcp of ``CODE_DEV_KUBECONFIG``, the static users have no rights, unless `devstack.static_users.TOKEN_FILE` lies beside
the kubeconfig and kcp was started with it. A tenant's token is that of a ServiceAccount then, which the hub's proxies do
not identify.
"""

from devstack.devhub.hub import DevHub as DevHub
