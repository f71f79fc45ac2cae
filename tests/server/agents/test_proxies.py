"""Proxies that variables name: none gets to see what a worker asks of agents on this machine."""

import pytest

from parley_server.agents.a2a.access import Access
from parley_server.agents.catalog import close_agent, create_agent
from parley_server.agents.file.definitions import McpServer
from parley_server.agents.mcp.servers import McpServers
from parley_server.agents.mcp.session import ServerDown
from parley_server.core.errors import AgentUnavailable
from support.a2a_scripted import Ids, Said, ScriptedRemote, a_message, an_agent
from support.agent_runs import a_run, told_by
from support.fake_openai import FakeOpenAI, Say
from support.web_proxies import RecordingProxy


def hello(ids: Ids) -> list[Said]:
    return [a_message("Hello", context_id=ids.context)]


async def test_no_proxy_stands_before_a_remote_agent_on_this_machine_or_without_tls(
    proxy: RecordingProxy,
) -> None:
    """Fails without grpc.enable_http_proxy: gRPC asks the proxy, token and all."""
    remote = ScriptedRemote(hello)
    async with remote.running(), an_agent(remote.name, Access(token="t0ken")) as agent:
        assert "Hello" == (await told_by(agent, a_run())).text
    async with an_agent("a2a+grpc://agent.invalid:9000") as agent:
        with pytest.raises(AgentUnavailable):
            await told_by(agent, a_run())
    assert [] == proxy.asked


async def test_tls_to_a_remote_agent_elsewhere_goes_through_the_proxy(
    proxy: RecordingProxy,
) -> None:
    async with an_agent("a2a+grpcs://agent.invalid:9000") as agent:
        with pytest.raises(AgentUnavailable):
            await told_by(agent, a_run())
    assert {"CONNECT agent.invalid:9000 HTTP/1.1"} == set(proxy.asked)


async def test_no_proxy_stands_before_a_model_on_this_machine(proxy: RecordingProxy) -> None:
    """Fails with the libraries' own clients: the local model would be asked through the proxy."""
    with FakeOpenAI([Say("Hello")]) as fake:
        for url in (fake.base_url, fake.base_url.replace("127.0.0.1", "localhost")):
            agent = create_agent("openai-chat:any", openai_base_url=url)
            assert "Hello" == (await told_by(agent, a_run())).text
            await close_agent(agent)
    assert [] == proxy.asked


async def test_a_model_elsewhere_is_asked_through_the_proxy(proxy: RecordingProxy) -> None:
    agent = create_agent("openai-chat:any", openai_base_url="https://model.invalid/v1")
    with pytest.raises(AgentUnavailable):
        await told_by(agent, a_run())
    await close_agent(agent)
    assert {"CONNECT model.invalid:443 HTTP/1.1"} == set(proxy.asked)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://tools.invalid/mcp", {"CONNECT tools.invalid:443 HTTP/1.1"}),
        ("http://127.0.0.1:9/mcp", set()),
    ],
    ids=["elsewhere", "here"],
)
async def test_an_mcp_server_is_reached_as_models_are(
    proxy: RecordingProxy, url: str, asked: set[str]
) -> None:
    """Fails where a server elsewhere is not looked for behind the proxy, where alone it is."""
    servers = McpServers({"tools": McpServer(url=url)})
    (server,) = servers.for_agent(["tools"])
    with pytest.raises(ServerDown):
        await server.listed()
    await servers.close()
    assert asked == set(proxy.asked)
