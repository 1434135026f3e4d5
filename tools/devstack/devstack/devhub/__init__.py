"""A development hub: the part of the kedge hub that a provider and its tenants deal with, against a real kcp.

Same paths, status codes, bodies and objects as the hub. Differences, all deliberate:

- workspaces have type ``universal`` instead of the hub's own types;
- ``CatalogEntry`` is a CRD in each provider's workspace instead of an export of the hub, and only the entry that has
  the provider's name is followed;
- there is no login: a tenant's user is a ServiceAccount of the tenant's workspace, known to the hub by its token;
- no portal, no GraphQL, no aggregated MCP endpoint.
"""

from devstack.devhub.hub import DevHub as DevHub
