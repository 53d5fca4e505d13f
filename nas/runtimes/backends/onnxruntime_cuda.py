"""ONNX Runtime's CUDA provider: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html.

TF32 is off, so that FP32 has the same accuracy as on other devices. Never run on a GPU for this project.
"""

from nas.runtimes.ort.gpu import OrtGpuRuntime

RUNTIME = OrtGpuRuntime(
    name="onnxruntime_cuda",
    provider="CUDAExecutionProvider",
    provider_options={"device_id": "0", "cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": "0"},
    requirement="a CUDA device",
)
