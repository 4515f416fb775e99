"""Metrics written from their definitions, slow and independent of the package, as the tests' oracle."""

from __future__ import annotations

import itertools
import math

import numpy as np


def rates(scores, labels):
    """[(threshold, fnr, fpr)] at every distinct score and at infinity, by counting."""
    thresholds = np.array([*sorted(set(scores.tolist())), np.inf])
    fnr = np.mean(scores[labels][None] < thresholds[:, None], axis=1)
    fpr = np.mean(scores[~labels][None] >= thresholds[:, None], axis=1)
    return list(zip(thresholds.tolist(), fnr.tolist(), fpr.tolist(), strict=True))


def nearest_eer(scores, labels):
    best = None
    for _, fnr, fpr in rates(scores, labels):  # thresholds rise: <= keeps the higher of two
        if best is None or round(abs(fnr - fpr), 9) <= best[0]:
            best = (round(abs(fnr - fpr), 9), max(fnr, fpr))
    return best[1]


def interpolated_eer(scores, labels):
    for (_, fnr0, fpr0), (_, fnr1, fpr1) in itertools.pairwise(rates(scores, labels)):
        if fnr0 <= fpr0 and fnr1 >= fpr1:
            # where fnr0 + a (fnr1 - fnr0) = fpr0 + a (fpr1 - fpr0)
            a = (fpr0 - fnr0) / ((fnr1 - fnr0) - (fpr1 - fpr0))
            return fnr0 + a * (fnr1 - fnr0)
    raise AssertionError("no crossing")


def hull_eer(scores, labels):
    """The lowest crossing with FNR = FPR of any line between two points of the curve."""
    points = [(fnr, fpr) for _, fnr, fpr in rates(scores, labels)]
    above = [(fnr, fpr) for fnr, fpr in points if fnr - fpr >= 0]
    below = [(fnr, fpr) for fnr, fpr in points if fnr - fpr < 0]
    crossings = []
    for (fnr0, fpr0), (fnr1, fpr1) in itertools.product(below, above):
        a = (fpr0 - fnr0) / ((fnr1 - fnr0) - (fpr1 - fpr0))
        crossings.append(fnr0 + a * (fnr1 - fnr0))
    return min(crossings)


def min_dcf(scores, labels, p, c_miss, c_fa):
    costs = [c_miss * p * fnr + c_fa * (1 - p) * fpr for _, fnr, fpr in rates(scores, labels)]
    return min(costs) / min(c_miss * p, c_fa * (1 - p))


def act_dcf(llrs, labels, p, c_miss, c_fa):
    """Each trial gets the decision of least expected cost according to its log-likelihood ratio."""
    missed = accepted = 0
    for llr, target in zip(llrs.tolist(), labels.tolist(), strict=True):
        odds = math.exp(llr) * p / (1 - p)
        accept = odds * c_miss >= c_fa
        missed += target and not accept
        accepted += accept and not target
    cost = c_miss * p * missed / labels.sum() + c_fa * (1 - p) * accepted / (~labels).sum()
    return cost / min(c_miss * p, c_fa * (1 - p))


def cllr(llrs, labels):
    targets = [math.log2(1 + math.exp(-x)) for x in llrs[labels].tolist()]
    impostors = [math.log2(1 + math.exp(x)) for x in llrs[~labels].tolist()]
    return (sum(targets) / len(targets) + sum(impostors) / len(impostors)) / 2


def isotonic(scores, labels):
    """The best rising fit to the labels at each distinct score: max over starts of min over ends of means."""
    groups = [labels[scores == score] for score in sorted(set(scores.tolist()))]
    targets = np.cumsum([0, *(group.sum() for group in groups)])
    sizes = np.cumsum([0, *(len(group) for group in groups)])
    end, start = np.meshgrid(np.arange(1, len(groups) + 1), np.arange(len(groups)))  # (start, end)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(end > start, (targets[end] - targets[start]) / (sizes[end] - sizes[start]), np.inf)
    best = [max(means[a, i:].min() for a in range(i + 1)) for i in range(len(groups))]
    return dict(zip(sorted(set(scores.tolist())), best, strict=True))


def min_cllr(scores, labels):
    """Cllr of the log-likelihood ratios of the isotonic fit, with the prior odds of this list removed."""
    fit, cost = isotonic(scores, labels), {True: 0.0, False: 0.0}
    prior = labels.sum() / (~labels).sum()
    for score, target in zip(scores.tolist(), labels.tolist(), strict=True):
        p = fit[score]
        if p in (0, 1):  # certain, and right: PAV never pools a wrong one with these
            assert p == target
            continue
        ratio = p / (1 - p) / prior
        cost[target] += math.log2(1 + (1 / ratio if target else ratio))
    return (cost[True] / labels.sum() + cost[False] / (~labels).sum()) / 2
