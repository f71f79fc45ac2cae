"""A model behind OpenAI's Chat Completions, on this machine, in the place of Ollama or vLLM.

    python examples/model_server.py

It is llama.cpp's server with the small model that `make setup` has installed, at
http://127.0.0.1:9100/v1. It takes any key, and ends with Ctrl-C.
"""

import signal

import xllamacpp

from parley_server.agents.local_model import find_model

PORT = 9100

params = xllamacpp.CommonParams()
params.model.path = str(find_model())
params.model_alias = {"small"}
params.hostnames = ["127.0.0.1"]
params.port = PORT
params.verbosity = 1  # errors alone
params.ui = False
params.n_ctx = 4096
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
signal.sigwait({signal.SIGINT, signal.SIGTERM})
