"""Agents on other servers, by A2A v1 over gRPC: see decision 0035 and docs/remote-agents.md.

    AgentRun ─ asking ─► SendStreamingMessage ─► events ─ reading, texts ─► AgentEvents
                              connection             failures: what goes wrong

The protos of A2A stop here, as Parley's own stop at rpc.
"""
