"""Hypothesis strategies: it draws shapes and a seed, NumPy draws the values."""

from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 6)
matrix_shapes = st.tuples(sizes, sizes)                                            # (S, M)
any_shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)        # of an element-wise function
norm_shapes = st.tuples(st.integers(2, 6), st.integers(2, 6))                      # (S, M), both with a variance


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[tuple[int, int, int, int], int, tuple[int, int]]:
    """((S, C_in, H, W), C_out, (kh, kw)), the kernel no larger than the image."""
    kh, kw = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(kh, 5)), draw(st.integers(kw, 5)))
    return shape, draw(st.integers(1, 3)), (kh, kw)
