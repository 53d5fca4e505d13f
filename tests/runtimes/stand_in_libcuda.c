/* A stand-in for NVIDIA's driver library, so that pycuda can be imported and driven where there is no GPU: device memory
   is memory, streams do everything at once, events hold the wall clock, and a graph only counts its launches. What is
   not here is appended by benchmarks/pycuda_build.py and answers CUDA_ERROR_NOT_SUPPORTED. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2 };
static int handle, launches, capturing;

int cuInit(unsigned flags) { return SUCCESS; }
int cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cuGetErrorString(int status, const char **text) { *text = "the stand-in has no such call"; return SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal ? INVALID_VALUE : SUCCESS; }
int cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "stand-in GPU", size); return SUCCESS; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &handle; return SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
int cuCtxPushCurrent_v2(void *context) { return context ? SUCCESS : INVALID_VALUE; }
int cuCtxPopCurrent_v2(void **context) { if (context) *context = &handle; return SUCCESS; }
int cuCtxGetDevice(int *device) { *device = 0; return SUCCESS; }
int cuCtxSynchronize(void) { return SUCCESS; }
int cuCtxDetach(void *context) { return SUCCESS; }

int cuMemAlloc_v2(void **address, size_t size) { *address = malloc(size); return *address ? SUCCESS : OUT_OF_MEMORY; }
int cuMemFree_v2(void *address) { free(address); return SUCCESS; }
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t size, void *stream) { memcpy(to, from, size); return SUCCESS; }
int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t size, void *stream) { memcpy(to, from, size); return SUCCESS; }

int cuStreamCreate(void **stream, unsigned flags) { *stream = &handle; return SUCCESS; }
int cuStreamSynchronize(void *stream) { return SUCCESS; }
int cuStreamDestroy_v2(void *stream) { return SUCCESS; }

int cuEventCreate(void **event, unsigned flags) { *event = calloc(1, sizeof(struct timespec)); return SUCCESS; }
int cuEventRecord(struct timespec *event, void *stream) { return clock_gettime(CLOCK_MONOTONIC, event); }
int cuEventSynchronize(void *event) { return SUCCESS; }
int cuEventDestroy_v2(void *event) { free(event); return SUCCESS; }
int cuEventElapsedTime(float *ms, struct timespec *start, struct timespec *end) {
  *ms = (end->tv_sec - start->tv_sec) * 1e3 + (end->tv_nsec - start->tv_nsec) / 1e6;
  return SUCCESS;
}
int cuEventElapsedTime_v2(float *ms, void *start, void *end) { return cuEventElapsedTime(ms, start, end); }

int cuStreamBeginCapture_v2(void *stream, int mode) {
  if (stream != &handle || capturing) return INVALID_VALUE;
  capturing = 1;
  return SUCCESS;
}
int cuStreamEndCapture(void *stream, void **graph) {
  if (!capturing) return INVALID_VALUE;
  capturing = 0;
  *graph = &launches;
  return SUCCESS;
}
int cuGraphInstantiateWithFlags(void **ready, void *graph, unsigned long long flags) {
  *ready = graph;
  return graph == &launches && !flags ? SUCCESS : INVALID_VALUE;
}
int cuGraphLaunch(void *ready, void *stream) {
  if (ready != &launches || stream != &handle) return INVALID_VALUE;
  launches++;
  return SUCCESS;
}
int stand_in_launches(void) { return launches; }
