"""TensorRT engines, CUDA and trtexec."""
