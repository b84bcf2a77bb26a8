"""Compiles the Triton kernels for GPUs that need not be there, and prints their PTX by name, as JSON."""

from __future__ import annotations

import json


def everything() -> dict[str, str]:
    """By "<compute capability> <dtype> <aligned> <with change, start and counts>", or "<compute capability> layers".

    With " rows" behind it where there are gaps.
    """
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from wstrack.measuring.meters import kernels
    from wstrack.measuring.meters.cuda import LAYER_WARPS, WARPS

    def ptx(kernel: object, capability: int, arguments: dict[str, str], warps: int, **constants: object) -> str:
        signature = {**arguments, **dict.fromkeys(constants, "constexpr")}
        source = ASTSource(kernel, signature, constants)
        target = GPUTarget("cuda", capability, 32)
        return triton.compile(source, target=target, options={"num_warps": warps}).asm["ptx"]

    found = {}
    for capability in (80, 90):
        for name, dtype, block in (("fp32", tl.float32, 1024), ("bf16", tl.bfloat16, 2048), ("fp16", tl.float16, 2048)):
            for aligned in (True, False):
                for extra, rows in ((True, False), (False, False), (True, True), (False, True)):
                    found[f"{capability} {name} {aligned} {extra}{' rows' * rows}"] = ptx(
                        kernels.chunk_sums, capability, {"table": "*i64", "partial": "*fp64", "first": "i32"}, WARPS,
                        DTYPE=dtype, ALIGNED=aligned, ROWS=rows, CHANGE=extra, START=extra, COUNTS=extra, BITS=extra,
                        BLOCK=block, BLOCKS=kernels.CHUNK // block, FIELDS=kernels.FIELDS, COLUMNS=kernels.COLUMNS,
                    )  # fmt: skip
        found[f"{capability} layers"] = ptx(
            kernels.layer_sums, capability, {"partial": "*fp64", "begins": "*i64", "result": "*fp64"}, LAYER_WARPS,
            COLUMNS=kernels.COLUMNS, AT_ONCE=kernels.AT_ONCE,
        )  # fmt: skip
    return found


if __name__ == "__main__":  # pytest imports this file too, in search of doctests
    print(json.dumps(everything()))
