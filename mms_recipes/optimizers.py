"""Adam for LSAH: the languages of a job share nothing, also not the clipping of their gradients."""

from collections.abc import Callable

import torch
from fairseq.optim import register_optimizer
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig


@register_optimizer("mms_language_adam", dataclass=FairseqAdamConfig)
class LanguageAdam(FairseqAdam):
    """Adam whose clip_norm holds for each language by itself.

    Adam works element by element and all languages of a job make their updates together, so only the norm of the
    gradient would make one language's training depend on the others'. Parameters carry `language_of_row`.
    """

    def clip_grad_norm(self, max_norm: float, aggregate_norm_fn: Callable | None = None) -> torch.Tensor:
        """Scale each language's gradient to at most max_norm (0: leave it); return the largest norm of a language."""
        parameters = [p for p in self.params if p.grad is not None]
        rows = [p.language_of_row.to(p.device) for p in parameters]
        num_langs = max(int(row.max()) for row in rows) + 1
        squares_L = torch.zeros(num_langs, device=parameters[0].device)
        for parameter, row in zip(parameters, rows, strict=True):
            squares_L.index_add_(
                0,
                row,
                parameter.grad.float().flatten(1).square().sum(1)
                if parameter.dim() > 1
                else parameter.grad.float().square(),
            )
        norms_L = squares_L.sqrt()
        if max_norm > 0:
            scale_L = (max_norm / (norms_L + 1e-6)).clamp(max=1.0)
            for parameter, row in zip(parameters, rows, strict=True):
                parameter.grad.mul_(scale_L[row].view(-1, *[1] * (parameter.dim() - 1)).to(parameter.grad.dtype))
        return norms_L.max()
