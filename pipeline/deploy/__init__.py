"""What `supple deploy` writes for a robot's computer.

`onnx_graph` and `graph_file` write the graphs of an acting path. `onnx_graph` and `cpp_path` run them, and `parity`
compares them with the bundle's agent. `folder` puts all together with the files of `template/`.

ONNX Runtime 1.32 reports to its maker unless a variable of the environment says otherwise when it is loaded. Here it
does not, unless the user has set that variable.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
