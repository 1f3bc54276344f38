"""What `supple deploy` writes for a robot's computer.

`onnx_graph` and `graph_file` write the graphs of an acting path. `onnx_graph` and `cpp_path` run them, and `parity`
compares them with the bundle's agent. `folder` puts all together with the files of `template/`.
"""
