"""Distances, similarities and losses that are made of other operations."""

import numpy as np
from op_reference import (
    np_cosine_embedding,
    np_cosine_similarity,
    np_gaussian_nll,
    np_glu,
    np_hinge_embedding,
    np_margin_ranking,
    np_pairwise_distance,
    np_poisson_nll,
    np_prelu,
    np_soft_margin,
    np_triplet_margin,
    np_vector_norm,
)

from .columns import FLOATS, Op, S, ones


def signs(count):
    """Which of so many pairs belong together: whole numbers, through which no gradient flows."""
    return np.array([1, -1, 1, -1, 1][:count])


def bad_reduction(*shapes):
    return (S(*(ones(*s) for s in shapes), reduction="avg"), (RuntimeError, ValueError), "avg")


ROWS = [
    Op("dist", lambda a, b, p=2.0: np_vector_norm(a - b, p), lambda g: [S(g(2, 3), g(2, 3)),
        S(g(2, 3), g(3), 3.0), S(g(), g()), S(g(5), g(5), p=2.0)], "fm", FLOATS, tol=8,
        errors=[(S(ones(3), ones(4)), RuntimeError, "3.*4|4.*3")]),
    Op("nn.functional.cosine_similarity", np_cosine_similarity, lambda g: [S(g(2, 3), g(2, 3)),
        S(g(2, 3), g(1, 3)), S(g(5), g(5), dim=0), S(g(2, 3, 4), g(2, 3, 4), dim=-1)], "f", FLOATS,
        tol=16, aliases=("cosine_similarity",), errors=[(S(ones(3), ones(3)), IndexError, "1")]),
    Op("nn.functional.pairwise_distance", np_pairwise_distance, lambda g: [S(g(2, 3), g(2, 3)),
        S(g(5), g(5), p=3.0), S(g(2, 3), g(3), keepdim=True)], "f", FLOATS, tol=8,
        aliases=("pairwise_distance",),
        errors=[(S(ones(2, 3), ones(2, 4)), RuntimeError, "3.*4|4.*3")]),
    Op("nn.functional.glu", np_glu, lambda g: [S(g(2, 4)), S(g(4, 3), 0), S(g(2, 6, 3), dim=1),
        S(g(0, 2))], "f", FLOATS, tol=4, errors=[(S(ones(3)), RuntimeError, "must be even.*size 3"),
        (S(ones()), RuntimeError, "does not support scalars")]),
    Op("nn.functional.prelu", np_prelu, lambda g: [S(g(2, 3), g(1)), S(g(2, 3), g(3)),
        S(g(2, 3, 4), g(3)), S(g(5), g(1))], "f", FLOATS, aliases=("prelu",),
        errors=[(S(ones(2, 3), ones(4)), RuntimeError, "numbers = 4 and channel size = 3")]),
    Op("nn.functional.margin_ranking_loss", np_margin_ranking, lambda g: [
        S(g(5), g(5), signs(5)), S(g(2, 3), g(2, 3), signs(3), 0.5, reduction="sum"),
        S(g(5), g(5), signs(5), margin=1.0, reduction="none")], "f", FLOATS, tol=4, scale=1,
        errors=[bad_reduction((3,), (3,), (3,))]),
    Op("nn.functional.hinge_embedding_loss", np_hinge_embedding, lambda g: [S(g(5), signs(5)),
        S(g(2, 3), signs(3), 2.0, reduction="sum"), S(g(5), signs(5), reduction="none")], "f",
        FLOATS, tol=4, scale=1, errors=[bad_reduction((3,), (3,))]),
    Op("nn.functional.cosine_embedding_loss", np_cosine_embedding, lambda g: [
        S(g(5, 3), g(5, 3), signs(5)), S(g(3), g(3), np.array(1)),
        S(g(5, 3), g(5, 3), signs(5), 0.1, reduction="none")], "f", FLOATS, tol=16, scale=1,
        errors=[bad_reduction((2, 3), (2, 3), (2,)),
        (S(ones(2, 3), ones(2, 3), ones(2, 1)), RuntimeError, "0D or 1D target tensor expected")]),
    Op("nn.functional.soft_margin_loss", np_soft_margin, lambda g: [S(g(5), signs(5)),
        S(g(2, 3), signs(3), reduction="sum"), S(g(5), signs(5), reduction="none")], "f",
        FLOATS, tol=4, scale=1, errors=[bad_reduction((3,), (3,))]),
    Op("nn.functional.poisson_nll_loss", np_poisson_nll, lambda g: [S(g(2, 3), g(2, 3)),
        S(g(5), g(5), log_input=False), S(g(5), g(5), full=True, reduction="sum"),
        S(g(5), g(5), reduction="none")], "f", FLOATS, low=1.2, high=3.0, tol=8,
        errors=[bad_reduction((3,), (3,))]),
    Op("nn.functional.gaussian_nll_loss", np_gaussian_nll, lambda g: [
        S(g(2, 3), g(2, 3), g(2, 3)), S(g(2, 3), g(2, 3), g(2), full=True),
        S(g(2, 3), g(2, 3), g(2, 1), reduction="none"), S(g(5), g(5), g(5), reduction="sum")], "f",
        FLOATS, low=0.5, high=3.0, tol=8, errors=[bad_reduction((3,), (3,), (3,)),
        (S(ones(3), ones(3), -ones(3)), ValueError, "negative entry"),
        (S(ones(2, 3), ones(2, 3), ones(2, 2)), ValueError, "incorrect size")]),
    Op("nn.functional.triplet_margin_loss", np_triplet_margin, lambda g: [
        S(g(2, 3), g(2, 3), g(2, 3)), S(g(5), g(5), g(5), 2.0, p=3.0),
        S(g(2, 3), g(2, 3), g(2, 3), swap=True, reduction="none")], "f", FLOATS, tol=8,
        errors=[bad_reduction((2, 3), (2, 3), (2, 3))]),
]  # fmt: skip
