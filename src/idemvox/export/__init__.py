"""Models as ONNX files, with what they lose by it measured: `idemvox export`."""
