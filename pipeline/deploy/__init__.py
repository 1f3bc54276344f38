"""The folder for a robot's computer: `onnx_graph` and `graph_file` write the graphs, `parity` compares them with the
bundle's agent, `folder` puts all together with the files of `template/`."""
