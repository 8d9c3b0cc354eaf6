"""Losses of the training phases; all return a float32 scalar."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cxrgaze_ray.models.settings import TripletMining

_IN_PIECES = 1.4
"""How much more memory thousands of pieces were measured to take than they hold: some of it lies between them."""


def triplet_loss(
    features_BCHW: Tensor, labels_B: Tensor, *, margin: float = 1.0, mining: TripletMining = "batch_all"
) -> Tensor:
    """Triplet loss with Euclidean distances over every (anchor, positive, negative) of a batch.

    Parameters
    ----------
    features_BCHW
        Feature maps, or vectors (B, C). batch_all and batch_hard pool maps first (GAP).
    labels_B
        Class indices.
    margin
        Margin of the hinge.
    mining
        ``batch_all``: the mean hinge of all valid triplets. ``batch_hard``: farthest positive and nearest negative
        of each anchor, mean. ``rowwise_sum``: the released code's, hinges of row-wise distances between un-pooled
        maps, averaged over a triplet's rows and summed over triplets.

    Returns
    -------
    Tensor
        A batch without a valid triplet gives 0, with zero gradients.
    """
    features = features_BCHW.float()
    if mining == "rowwise_sum":
        return _rowwise_sum(features, labels_B, margin)
    vectors_BC = features.mean(dim=(2, 3)) if features.ndim == 4 else features
    distance_BB = _distances(vectors_BC)
    same_BB = labels_B[:, None] == labels_B[None, :]
    positive_BB = same_BB & ~torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
    if mining == "batch_hard":
        return _batch_hard(distance_BB, positive_BB, ~same_BB, margin)
    hinge_BBB = torch.relu(distance_BB[:, :, None] - distance_BB[:, None, :] + margin)
    valid_BBB = positive_BB[:, :, None] & ~same_BB[:, None, :]
    return (hinge_BBB * valid_BBB).sum() / valid_BBB.sum().clamp(min=1)


def triplet_weight(labels_B: Tensor, mining: TripletMining = "batch_all") -> int:
    """Return the weight of a batch's `triplet_loss` in a mean over batches: the number of items it was mined from.

    Returns
    -------
    int
        ``batch_all``: the valid triplets. ``batch_hard``: the anchors that have a positive and a negative.
        ``rowwise_sum``: 1, for it is a sum over the batch. 0 for a batch without a valid triplet, whatever the mining.
    """
    counts_K = torch.unique(labels_B, return_counts=True)[1]
    anchors_K = counts_K * (counts_K > 1) * (counts_K < len(labels_B))
    if mining == "batch_hard":
        return int(anchors_K.sum())
    triplets = int((anchors_K * (counts_K - 1) * (len(labels_B) - counts_K)).sum())
    return triplets if mining == "batch_all" else min(triplets, 1)


def triplet_bytes(rows: int, shape: Sequence[int], mining: TripletMining = "batch_all") -> int:
    """Return the most bytes that `triplet_loss` and its gradient take at once, beside the features.

    Unlike what layers take, they grow with the square and the cube of a batch.

    Parameters
    ----------
    rows
        Rows of the batch.
    shape
        Shape of one row's features: (C, H, W), or (C,) of vectors.
    """
    pairs, channels = rows**2, shape[0]
    if mining == "rowwise_sum":
        # of every pair the maps' difference and its rows' distances, of every triplet its rows' hinges: at most a
        # quarter of all triples are triplets
        return round(_IN_PIECES * 4 * (pairs * math.prod(shape) + (pairs + rows**3 // 4) * math.prod(shape[:-1])))
    differences = 4 * pairs * channels
    # backwards, a square takes its input three times more
    if mining == "batch_hard":
        return 4 * differences
    # the hinges, their gradient and that of their input, and a byte for each that is valid
    return max(4 * differences, differences + 13 * rows**3)


def _distances(vectors_BC: Tensor) -> Tensor:
    """Euclidean distances (B,B); the tiny floor keeps the gradient of a zero distance finite."""
    squared_BB = (vectors_BC[:, None, :] - vectors_BC[None, :, :]).square().sum(-1)
    return torch.sqrt(squared_BB + 1e-12)


def _batch_hard(distance_BB: Tensor, positive_BB: Tensor, negative_BB: Tensor, margin: float) -> Tensor:
    farthest_B = distance_BB.masked_fill(~positive_BB, -torch.inf).amax(dim=1)
    nearest_B = distance_BB.masked_fill(~negative_BB, torch.inf).amin(dim=1)
    valid_B = positive_BB.any(dim=1) & negative_BB.any(dim=1)
    if not valid_B.any():
        return distance_BB.sum() * 0.0
    return torch.relu(farthest_B[valid_B] - nearest_B[valid_B] + margin).mean()


def _rowwise_sum(maps_BCHW: Tensor, labels_B: Tensor, margin: float) -> Tensor:
    rows_BRW = maps_BCHW.flatten(1, -2)
    total = maps_BCHW.sum() * 0.0
    for anchor, label in enumerate(labels_B):
        # one anchor at a time: all distances at once would hold B x B un-pooled maps
        distance_BR = torch.sqrt((rows_BRW - rows_BRW[anchor]).square().sum(-1) + 1e-12)
        positive_B = labels_B == label
        negative_B = ~positive_B
        positive_B = positive_B.clone()
        positive_B[anchor] = False
        for farther_R in distance_BR[positive_B]:
            total = total + torch.relu(farther_R - distance_BR[negative_B] + margin).mean(dim=1).sum()
    return total


def classification_loss(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Mean cross-entropy of logits against class indices."""
    return functional.cross_entropy(logits_BK.float(), labels_B)


def saliency_loss(log_saliency_B1HW: Tensor, gaze_BHW: Tensor) -> Tensor:
    """Mean of KL(gaze || saliency) over the batch's maps that have mass; each is normalised to sum 1 first.

    Returns
    -------
    Tensor
        NaN if no map has mass: nobody knows then how good the saliency is.
    """
    target_BN = gaze_BHW.flatten(1).float()
    mass_B1 = target_BN.sum(dim=1, keepdim=True)
    target_BN = torch.where(mass_B1 > 0, target_BN / mass_B1, 0.0)
    total = functional.kl_div(log_saliency_B1HW.flatten(1).float(), target_BN, reduction="sum")
    return total / (mass_B1 > 0).sum()


class JointLoss(nn.Module):
    """Diagnosis and gaze in one loss: CE / s^2 + log(s + 1) + KL / 2 + log 2, with s = exp(log_s) learned.

    Weights by uncertainty as in MT-UNet (Zhu et al. 2022); that of the gaze is fixed at 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_s = nn.Parameter(torch.zeros(()))

    def forward(self, logits_BK: Tensor, labels_B: Tensor, log_saliency_B1HW: Tensor, gaze_BHW: Tensor) -> Tensor:
        classes, gaze = classification_loss(logits_BK, labels_B), saliency_loss(log_saliency_B1HW, gaze_BHW)
        return classes * torch.exp(-2 * self.log_s) + torch.log1p(torch.exp(self.log_s)) + gaze / 2 + math.log(2)
