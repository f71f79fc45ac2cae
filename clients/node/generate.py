"""Generates what of this client comes from elsewhere: stubs from the protos, the service config.

    python clients/node/generate.py [FOLDER]

Args:
    FOLDER: where to; by default the committed one, src/gen.
"""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COMMITTED = HERE / "src" / "gen"
PLUGIN = HERE / "node_modules" / ".bin" / "protoc-gen-ts_proto"
SERVICE_CONFIG = ROOT / "clients" / "python" / "parley_client" / "service_config.json"

OPTIONS = (
    "env=node",
    "esModuleInterop=true",
    "importSuffix=.js",
    "outputServices=grpc-js",
    "oneof=unions-value",
    "stringEnums=true",
    "enumsAsLiterals=true",
    "removeEnumPrefix=true",
    "useExactTypes=false",
    "outputJsonMethods=false",
    # What the protos import for other readers (HTTP annotations) is not needed here.
    "emitImportedFiles=false",
    "annotateFilesWithVersion=false",
)
NEEDED = (
    "google/protobuf/any.proto",
    "google/protobuf/duration.proto",
    "google/protobuf/timestamp.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
)


def generate(folder: Path) -> None:
    """Write everything into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    protos = ROOT / "protos"
    own = sorted(str(p.relative_to(protos)) for p in (protos / "parley" / "v1").glob("*.proto"))
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            # googleapis-common-protos has put google/api and google/rpc there.
            *("-I.", f"-I{sysconfig.get_path('purelib')}"),
            f"--plugin=protoc-gen-ts_proto={PLUGIN}",
            f"--ts_proto_out={folder}",
            f"--ts_proto_opt={','.join(OPTIONS)}",
            *own,
            *NEEDED,
        ],
        cwd=protos,
        check=True,
    )
    config = json.dumps(json.loads(SERVICE_CONFIG.read_text("utf-8")), indent=2)
    (folder / "service_config.ts").write_text(
        "// Generated from the service config that all clients share. DO NOT EDIT.\n\n"
        "/** How channels to Parley balance and retry (gRFC A6), as gRPC takes it. */\n"
        f"export const SERVICE_CONFIG = `{config}`;\n",
        "utf-8",
    )


if __name__ == "__main__":
    generate(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else COMMITTED)
