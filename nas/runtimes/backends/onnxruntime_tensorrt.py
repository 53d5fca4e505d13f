"""ONNX Runtime's TensorRT provider: https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html.

The file decides the precision: FP16 and INT8 come as FP16 tensors and Q/DQ nodes, not as permissions for the builder.
Sparse kernels are allowed, which only weights with 2:4 zeros can use.
Engines are not cached on disk, so none is ever loaded. Never run on a GPU for this project.
"""

from nas.runtimes.ort.gpu import OrtGpuRuntime

RUNTIME = OrtGpuRuntime(
    name="onnxruntime_tensorrt",
    provider="TensorrtExecutionProvider",
    provider_options={
        "device_id": "0",
        "trt_builder_optimization_level": "3",
        "trt_engine_cache_enable": "0",
        "trt_sparsity_enable": "1",
    },
    requirement="a CUDA device with TensorRT",
)
