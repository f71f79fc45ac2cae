"""Who a caller is, out of a signed token: the adapter behind the port TokenVerifier.

Four files: `keys` (what signatures are checked with; every key is bound to one algorithm),
`jwt_verifier` (a token becomes a Principal, or Unauthenticated), `jwks` (the same with keys that an
issuer publishes) and `tokens` (makes tokens, for `parley-server token`).
"""
