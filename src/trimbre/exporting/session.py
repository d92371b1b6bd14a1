"""ONNX Runtime sessions, the same for comparing, running and timing exported graphs."""

from pathlib import Path
from typing import Any


def session(path: Path, *, threads: int = 1) -> Any:
    """An ONNX Runtime session of a file on the CPU; its threads do not spin while they wait."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
