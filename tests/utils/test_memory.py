import pytest
import torch

from dal.utils.memory import fitting, out_of_memory


@pytest.mark.parametrize(
    ("error", "want"),
    [
        (torch.OutOfMemoryError("CUDA"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried ..."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_recognised(error: BaseException, want: bool) -> None:
    assert out_of_memory(error) is want


def test_settings_that_ask_for_too_much_are_named() -> None:
    with pytest.raises(ValueError, match=r"n=3: this takes .* GiB of memory, and this machine has"):
        fitting(10**400, "n=3").__enter__()
    free = r"n=3: .* at least, and so much is not free; ask for"
    with pytest.raises(ValueError, match=free), fitting(8, "n=3"):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="another"), fitting(8, "n=3"):
        raise RuntimeError("another")
