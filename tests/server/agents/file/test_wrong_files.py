"""Ways in which an agents file can be wrong: each is told with its line, and with what is right."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.agents.file.problems import BadAgentsFile
from parley_server.agents.file.reading import read_agents_file

SECRET = "sk-of-nobody-else"
ENVIRONMENT = {
    "KEY": SECRET,
    "EMPTY": "",
    "LINES": f"{SECRET}\n",
    "ACCENTS": f"{SECRET}é",
    "PEM": f"-----BEGIN\n{SECRET}\n",
}

RIGHT = """default = "shop"
[agents.shop]
model = "openai:gpt-5-mini"
api_key = "$KEY"
[agents.echo]
model = "echo"
[mcp.files]
command = ["files"]
"""


def with_lines(text: str) -> str:
    """Return a file that is right, and ends with an agent that has these lines, from line 3 on."""
    return f'[agents.a]\nmodel = "echo"\n{text}\n'


def with_server(text: str) -> str:
    """Return a file that is right but for the lines of a server of tools, from line 4 on."""
    return f'[agents.a]\nmodel = "echo"\n[mcp.files]\n{text}\n'


SYNTAX = {
    "no-quotes": (
        "[agents.a]\nmodel = openai:gpt-5-mini\n",
        ['2: is not valid TOML (Invalid value): put text in quotes: model = "…"'],
    ),
    "no-value": (
        with_lines("description ="),
        ['3: is not valid TOML (Invalid value): give it a value: description = "…"'],
    ),
    "colon": (
        '[agents.a]\nmodel: "echo"\n',
        [
            "2: is not valid TOML (Expected '=' after a key in a key/value pair): "
            'write = between key and value: model = "…"'
        ],
    ),
    "open-header": (
        '[agents.a\nmodel = "echo"\n',
        [
            "1: is not valid TOML (Expected ']' at the end of a table declaration): "
            "close the bracket: [agents.shop]"
        ],
    ),
    "open-quotes": (
        with_lines('description = "Sells pens.'),
        [
            r"3: is not valid TOML (Illegal character '\n'): "
            "close the quotes; a text of several lines begins and ends with three"
        ],
    ),
    "open-text": (
        with_lines('\ninstructions = """\nYou sell pens.\nAll day.'),
        [
            "4: is not valid TOML (Unterminated string): "
            "close the quotes; a text of several lines begins and ends with three"
        ],
    ),
    "capital-true": (
        with_lines("rehearsal = True"),
        ["3: is not valid TOML (Invalid value): write rehearsal = true"],
    ),
    "backslash": (
        with_lines(r'instructions_file = "C:\shop.md"'),
        [
            r"3: is not valid TOML (Unescaped '\' in a string): "
            "write a text with backslashes in single quotes"
        ],
    ),
    "word": (
        with_lines("please"),
        [
            "3: is not valid TOML (Expected '=' after a key in a key/value pair): "
            'a line is a [table] or key = "…"'
        ],
    ),
    "two-of-them": (
        "[agents.a]\nmodel = echo\nrehearsal = False\n",
        [
            '2: is not valid TOML (Invalid value): put text in quotes: model = "…"',
            "3: is not valid TOML (Invalid value): write rehearsal = false",
        ],
    ),
    "key-twice": (
        with_lines('model = "local"'),
        ["3: agents.a.model: is set twice, first in line 2: remove one"],
    ),
    "table-twice": (
        with_lines('[agents.a]\nmodel = "local"'),
        ["3: agents.a: is set twice, first in line 1: remove one"],
    ),
}

KEYS = {
    "empty": ("", ["1: agents: is missing: add a table such as [agents.shop] with a model"]),
    "no-agent": (
        "[agents]\n",
        ["1: agents: has no agent: add a table such as [agents.shop] with a model"],
    ),
    "agents-no-table": ("agents = 3\n", ["1: agents: must be a table"]),
    "agent-no-table": ("[agents]\n\na = 3\n", ["3: agents.a: must be a table"]),
    "no-model": (
        '[agents.a]\ndescription = "x"\n',
        ['1: agents.a.model: is missing: add model = "openai:gpt-5-mini"'],
    ),
    "empty-model": (
        '[agents.a]\nmodel = ""\n',
        ['2: agents.a.model: must not be empty, for example "openai:gpt-5-mini"'],
    ),
    "no-such-model": (
        '[agents.a]\nmodel = "gpt-5-mini"\n',
        [
            "2: agents.a.model: is no agent: use local, echo, PROVIDER:MODEL (for example "
            "openai:gpt-5-mini), python:MODULE:ATTRIBUTE or a2a+grpc://HOST:PORT"
        ],
    ),
    "unknown-key": (
        with_lines('\nbase_ulr = "http://x"'),
        ["4: agents.a.base_ulr: is not known here: did you mean base_url?"],
    ),
    "unknown-limit": (
        with_lines("limits.second = 3"),
        ["3: agents.a.limits.second: is not known here: did you mean seconds?"],
    ),
    "unknown-far": (
        with_lines("[agents.a.limits]\nxyz = 3"),
        [
            "4: agents.a.limits.xyz: is not known here: use one of output_tokens, reply_bytes, "
            "seconds, tokens_a_day, tool_calls"
        ],
    ),
    "unknown-at-top": (
        'defualt = "a"\n[agents.a]\nmodel = "echo"\n',
        ["1: defualt: is not known here: did you mean default?"],
    ),
    "name": (
        '[agents."My Shop"]\nmodel = "echo"\n',
        [
            '1: agents."My Shop": names have lower-case letters and digits, and between them dots, '
            "dashes and underscores, 63 characters at most, for example shop"
        ],
    ),
    "default-unknown": (
        RIGHT.replace('"shop"', '"shpo"'),
        ["1: default: names no agent of this file: did you mean shop?"],
    ),
    "no-default": (
        RIGHT.removeprefix('default = "shop"\n'),
        [
            "1: default: is missing, and there are several agents: "
            'add default = "shop" as first line'
        ],
    ),
    "default-number": (
        'default = 1\n[agents.a]\nmodel = "echo"\n',
        ['1: default: must be text in quotes, for example "shop"'],
    ),
    "seconds-0": (
        with_lines("[agents.a.limits]\n\nseconds = 0"),
        ["5: agents.a.limits.seconds: must be greater than 0, for example 30"],
    ),
    "seconds-nan": (
        with_lines("limits.seconds = nan"),
        ["3: agents.a.limits.seconds: must be a number, for example 30"],
    ),
    "seconds-text": (
        with_lines('limits.seconds = "30"'),
        ["3: agents.a.limits.seconds: must be a number, for example 30"],
    ),
    "too-many-seconds": (
        with_lines("limits = { seconds = 100000 }"),
        ["3: agents.a.limits.seconds: must be 86,400 or less, for example 30"],
    ),
    "calls-half": (
        with_lines("limits.tool_calls = 1.5"),
        ["3: agents.a.limits.tool_calls: must be a whole number, for example 5"],
    ),
    "calls-below": (
        with_lines("limits.tool_calls = -1"),
        ["3: agents.a.limits.tool_calls: must be 0 or more, for example 5"],
    ),
    "few-tokens": (
        with_lines("limits.output_tokens = 3"),
        ["3: agents.a.limits.output_tokens: must be 16 or more, for example 2000"],
    ),
    "reply-bytes": (
        with_lines("limits.reply_bytes = 1_000_000"),
        ["3: agents.a.limits.reply_bytes: must be 262,144 or less, for example 8192"],
    ),
    "long-description": (
        with_lines(f'description = "{"x" * 1025}"'),
        [
            "3: agents.a.description: must have 1,024 characters at most, for example "
            '"Answers about orders."'
        ],
    ),
    "rehearsal-text": (
        with_lines('rehearsal = "yes"'),
        ["3: agents.a.rehearsal: must be true or false, for example true"],
    ),
    "both-instructions": (
        with_lines('instructions = "x"\ninstructions_file = "there.md"'),
        ["4: agents.a.instructions_file: is there beside instructions: remove one of the two"],
    ),
    "no-instructions-file": (
        with_lines('instructions_file = "not-there.md"'),
        [
            "3: agents.a.instructions_file: cannot be read (no such file or directory): "
            "name a file, from the folder FOLDER on"
        ],
    ),
    "instructions-folder": (
        with_lines('instructions_file = "."'),
        [
            "3: agents.a.instructions_file: cannot be read (is a directory): "
            "name a file, from the folder FOLDER on"
        ],
    ),
    "instructions-bytes": (
        with_lines('instructions_file = "bytes.md"'),
        ["3: agents.a.instructions_file: is no text in UTF-8: save it as UTF-8"],
    ),
    "instructions-number": (
        with_lines("instructions_file = 3"),
        [
            "3: agents.a.instructions_file: must be the path of a file, in quotes, "
            'for example "shop.md"'
        ],
    ),
    "literal-key": (
        f'[agents.a]\nmodel = "openai:x"\napi_key = "{SECRET}"\n',
        [
            "3: agents.a.api_key: holds a secret itself: put that into a variable, "
            'and write api_key = "$VARIABLE"'
        ],
    ),
    "literal-token": (
        f'[agents.a]\nmodel = "a2a+grpc://x:1"\ntoken = "{SECRET}"\n',
        [
            "3: agents.a.token: holds a secret itself: put that into a variable, "
            'and write token = "$VARIABLE"'
        ],
    ),
    "unset": (
        '[agents.a]\nmodel = "openai:x"\napi_key = "$NOWHERE"\n',
        [
            "3: agents.a.api_key: names the variable NOWHERE, which is not set: "
            "set it in the server's environment"
        ],
    ),
    "empty-variable": (
        '[agents.a]\nmodel = "openai:x"\napi_key = "${EMPTY}"\n',
        [
            "3: agents.a.api_key: names the variable EMPTY, which is not set: "
            "set it in the server's environment"
        ],
    ),
    "line-break": (
        '[agents.a]\nmodel = "openai:x"\napi_key = "$LINES"\n',
        [
            "3: agents.a.api_key: names the variable LINES, whose value has a line break, "
            "a control character or a space at an end: set it without"
        ],
    ),
    "bare-dollar": (
        with_server('command = ["x"]\nenv = { PRICE = "5 $ each" }'),
        ["5: mcp.files.env.PRICE: has a $ without a name: write $VARIABLE, or $$ for a dollar"],
    ),
    "variable-elsewhere": (
        '[agents.a]\nmodel = "openai:x"\nbase_url = "$URL"\n',
        [
            "3: agents.a.base_url: must be an http:// or https:// URL; "
            "variables are for secrets alone: api_key, token, env and headers"
        ],
    ),
    "url-with-password": (
        f'[agents.a]\nmodel = "openai:x"\nbase_url = "http://me:{SECRET}@x/v1"\n',
        [
            "3: agents.a.base_url: holds a user name or password: "
            "send a secret in api_key or headers"
        ],
    ),
    "echo-with-key": (
        with_lines('api_key = "$KEY"\nbase_url = "http://x/v1"'),
        [
            "3: agents.a.api_key: is for models of a provider: remove it",
            "4: agents.a.base_url: is for models of a provider: remove it",
        ],
    ),
    "one-python-agent": (
        'default = "a"\n'
        '[agents.a]\nmodel = "python:x:agent"\n'
        '[agents.b]\nmodel = "python:x:agent"\nbase_url = "http://x/v1"\n',
        [
            "5: agents.b.model: is the agent of agents.a, too: "
            "give both the same base_url, api_key, mcp and tools"
        ],
    ),
    "token-here": (
        with_lines('token = "$KEY"'),
        ["3: agents.a.token: is for a model a2a+grpc://HOST:PORT alone: remove it"],
    ),
    "cert-alone": (
        '[agents.a]\nmodel = "a2a+grpcs://x:1"\ncert_file = "there.md"\n',
        ["3: agents.a.cert_file: needs its key: add key_file"],
    ),
    "key-alone": (
        '[agents.a]\nmodel = "a2a+grpcs://x:1"\nkey_file = "there.md"\n',
        ["3: agents.a.key_file: needs its certificate: add cert_file"],
    ),
    "no-such-server": (
        with_lines('mcp = ["flies"]\n[mcp.files]\ncommand = ["x"]'),
        ["3: agents.a.mcp[1]: names no [mcp.…] table of this file: did you mean files?"],
    ),
    "no-server-at-all": (
        with_lines('mcp = ["files"]'),
        ["3: agents.a.mcp[1]: names no [mcp.…] table of this file: add a table [mcp.files]"],
    ),
    "rules-of-another-server": (
        '[agents.a]\nmodel = "a2a+grpc://far:9"\nmcp = ["files"]\ntools.pay.approval = true\n'
        '[mcp.files]\ncommand = ["x"]\n',
        [
            f"{line}: agents.a.{key}: is not for an agent on another server, which has its own "
            "tools: remove it"
            for line, key in ((3, "mcp"), (4, "tools"))
        ],
    ),
    "blank-program": (
        with_server('command = [" ", "x"]'),
        ['4: mcp.files.command: is empty: name a program, for example ["uvx", "some-server"]'],
    ),
    "nul-in-command": (
        with_server('command = ["x", "a\\u0000b"]'),
        ["4: mcp.files.command: has a NUL character: remove it"],
    ),
    "mcp-text": (
        with_lines('mcp = "files"'),
        ['3: agents.a.mcp: must be a list, for example ["files"]'],
    ),
    "run-by": (
        with_lines('tools.pay.run_by = "me"'),
        ["3: agents.a.tools.pay.run_by: must be 'server' or 'caller', for example \"caller\""],
    ),
    "tool-key": (
        with_lines("tools.pay.aproval = true"),
        ["3: agents.a.tools.pay.aproval: is not known here: did you mean approval?"],
    ),
    "command-and-url": (
        with_server('command = ["x"]\nurl = "https://x/mcp"'),
        ["5: mcp.files.url: is there beside command: a server is started or reached, not both"],
    ),
    "neither-of-them": (
        with_server("timeout_s = 3"),
        ['3: mcp.files: needs command = ["PROGRAM", "ARGUMENT"] or url = "https://HOST/mcp"'],
    ),
    "command-text": (
        with_server('command = "uvx some-mcp-server"'),
        ['4: mcp.files.command: must be a list, for example ["uvx", "some-mcp-server"]'],
    ),
    "command-empty": (
        with_server("command = []"),
        ['4: mcp.files.command: is empty: name a program, for example ["uvx", "some-server"]'],
    ),
    "headers-of-command": (
        with_server('command = ["x"]\nheaders = { A = "b" }'),
        ["5: mcp.files.headers: is for a server with url: remove it"],
    ),
    "env-of-url": (
        with_server('url = "http://x/mcp"\nenv = { A = "b" }'),
        ["5: mcp.files.env: is for a server with command: remove it"],
    ),
    "mcp-url": (
        with_server('url = "stdio://x"'),
        ["4: mcp.files.url: must be an http:// or https:// URL"],
    ),
    "cwd": (
        with_server('command = ["x"]\ncwd = "nowhere"'),
        ["5: mcp.files.cwd: is no folder: name one, from the folder FOLDER on"],
    ),
    "prefix": (
        with_server('command = ["x"]\nprefix = "my files"'),
        [
            "5: mcp.files.prefix: must have letters, digits, dashes and underscores only, "
            '32 at most, for example "files"'
        ],
    ),
    "accents-in-key": (
        '[agents.a]\nmodel = "openai:x"\napi_key = "$ACCENTS"\n',
        [
            "3: agents.a.api_key: has other characters than ASCII in its value: "
            "copy the secret again"
        ],
    ),
    "env-name": (
        with_server('command = ["x"]\n[mcp.files.env]\n"A=B" = "c"\n"" = "d"'),
        [
            f'{line}: mcp.files.env."{name}": is no name of a variable: it has no = and no NUL'
            for line, name in ((6, "A=B"), (7, ""))
        ],
    ),
    "env-nul": (
        with_server('command = ["x"]\nenv = { A = "b\\u0000c" }'),
        ["5: mcp.files.env.A: has a NUL character: remove it"],
    ),
    "header-name": (
        with_server('url = "http://x/mcp"\nheaders = { "My Token" = "$KEY" }'),
        [
            '5: mcp.files.headers."My Token": is no name of a header: it has letters, digits and '
            "dashes, for example Authorization"
        ],
    ),
    "header-value": (
        with_server('url = "http://x/mcp"\nheaders = { A = "$ACCENTS", B = "c\\nd" }'),
        [
            f"5: mcp.files.headers.{name}: must be printable ASCII, without line breaks or a space "
            "at an end"
            for name in "AB"
        ],
    ),
    "header-unset": (
        with_server('url = "http://x/mcp"\n[mcp.files.headers]\nAuthorization = "Bearer $NONE"'),
        [
            "6: mcp.files.headers.Authorization: names the variable NONE, which is not set: "
            "set it in the server's environment"
        ],
    ),
}


def problems_of(path: Path) -> list[str]:
    with pytest.raises(BadAgentsFile) as caught:
        read_agents_file(path, ENVIRONMENT)
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    assert SECRET not in str(caught.value)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "there.md").write_text("You sell pens.")
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe")
    return tmp_path


def test_file_that_is_right_is_read(folder: Path) -> None:
    (folder / "agents.toml").write_text(RIGHT)

    found = read_agents_file(folder / "agents.toml", ENVIRONMENT).definitions

    assert ["shop", "echo"] == list(found.agents)


@pytest.mark.parametrize("name", [*SYNTAX, *KEYS])
def test_wrong_file_is_told_with_line_and_remedy(name: str, folder: Path) -> None:
    text, expected = {**SYNTAX, **KEYS}[name]
    (folder / "agents.toml").write_text(text)

    assert [line.replace("FOLDER", str(folder)) for line in expected] == problems_of(
        folder / "agents.toml"
    )


def test_there_are_more_than_thirty_ways() -> None:
    assert 60 < len(SYNTAX) + len(KEYS)


def test_all_problems_of_a_file_are_told_at_once_in_order(folder: Path) -> None:
    (folder / "agents.toml").write_text(
        'defualt = "a"\n'
        "[agents.Shop]\n"
        "limits.seconds = 0\n"
        "[agents.b]\n"
        'model = "gpt"\n'
        'api_key = "k"\n'
        'mcp = ["x"]\n'
        "[mcp.q]\n"
        'env = { A = "$NOPE" }\n'
    )

    lines = [problem.partition(":")[0] for problem in problems_of(folder / "agents.toml")]

    assert ["1", "1", "2", "2", "3", "5", "6", "7", "8", "9"] == lines


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            b"\xef\xbb\xbf[agents.a]\n",
            "1: begins with a byte order mark: save it as UTF-8 without one",
        ),
        ("[agents.a]\n".encode("utf-16"), "1: is not UTF-8: save it as UTF-8"),
        (b'[agents.a]\nmodel = "\xe9"\n', "2: is not UTF-8: save it as UTF-8"),
        (
            b"#" * (1024 * 1024 + 1),
            " is larger than 1 MiB: put long instructions into files of their own",
        ),
    ],
    ids=["bom", "utf-16", "latin-1", "large"],
)
def test_file_that_is_no_text_is_told(data: bytes, expected: str, folder: Path) -> None:
    (folder / "agents.toml").write_bytes(data)

    assert [expected] == problems_of(folder / "agents.toml")


def test_file_that_is_not_there_and_a_folder_are_told(folder: Path) -> None:
    assert [" does not exist: create it, or correct its path"] == problems_of(folder / "nowhere")
    assert [" is a folder: name the file in it"] == problems_of(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_file_that_may_not_be_read_is_told(folder: Path) -> None:
    (folder / "agents.toml").write_text(RIGHT)
    (folder / "agents.toml").chmod(0)

    assert [" cannot be read (permission denied): let the server's user read it"] == problems_of(
        folder / "agents.toml"
    )


_WORDS = st.sampled_from(
    [
        *("[agents.a]", "[mcp.b]", "[[x]]", "model", "=", '"echo"', '"""', "'", "[", "]", "{", "}"),
        *(
            "limits",
            ".",
            "3",
            "#",
            ",",
            "api_key",
            '"$KEY"',
            "default",
            "\\",
            " ",
            "\n",
            "\r\n",
            "\0",
        ),
    ]
)


@given(st.lists(_WORDS, max_size=30).map("".join))
def test_any_text_is_read_or_refused_with_lines(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode())
    try:
        read_agents_file(path, ENVIRONMENT)
    except BadAgentsFile as error:
        last = text.count("\n") + 1
        assert all(1 <= (problem.line or 0) <= last for problem in error.problems)
