"""Who a caller is, out of a signed token: the adapter behind the port TokenVerifier.

Three files: `keys` (what signatures are checked with; every key is bound to one algorithm),
`jwt_verifier` (a token becomes a Caller, or Unauthenticated) and `tokens` (makes tokens, for
`parley-server token`).
"""
