"""The agents file: named agents, in TOML (decision 0032).

definitions   what the file may say: the JSON schema, too, comes from it
reading       a file becomes definitions, or all that is wrong with it, which is found by
    syntax        what is no TOML
    lines         in which line each key stands
    variables     `$VARIABLE` becomes its value, for secrets
    checks        what no single key can tell: names, files, what excludes each other
    sentences     pydantic's complaints as sentences that say what would be right
problems      how what is wrong is told
building      definitions become agents, and those that stay the same are kept
"""
