"""Attention of whole sequences: by a kernel on a CPU, or written out where torch's own would draw its masks slowly."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from irisflow.dropout import dropout
from irisflow.kernels.attention import attended, can_attend
from irisflow.plainly import is_plain


def attention(
    query: Float[Tensor, "batch heads queries width"],
    keys: Float[Tensor, "batch heads keys width"],
    values: Float[Tensor, "batch heads keys width"],
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    pdrop: float = 0.0,
) -> Float[Tensor, "batch heads queries width"]:
    """Return scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), of whose weights a share is dropped.

    A boolean mask is true where a query sees a key; another one is added to the scores. Without a mask, as many queries as
    keys are the kernel's on a CPU. Else, without `pdrop` or where masks are drawn quickly anyway, it is torch's own.
    """
    if mask is None and pdrop < 1 and can_attend(query, keys, values):
        return attended(query, keys, values, is_causal=is_causal, pdrop=pdrop)
    if not pdrop or not query.is_cpu or is_plain() or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, is_causal=is_causal, dropout_p=pdrop
        )
    scores = (query * query.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return dropout(scores.softmax(dim=-1), pdrop) @ values
