"""Gradient operators against published values and against convolutions."""

import pytest
import torch
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.ops.gradient import Gradients, central, gradient_map, magnitude, sobel

# A 4 × 4 image and its gradients by an independent script; the SPSR values equal those of the
# modules in the authors' repository exactly.
IMAGE = [[0.0, 0.25, 0.5, 0.75], [0.25, 0.25, 0.5, 0.5], [1, 0, 0.25, 0.75], [0.5, 0.5, 0.5, 0.5]]
SOBEL_X = [
    [0.75, 1.25, 1.25, -1.5],
    [0.75, 0.25, 1.75, -1.75],
    [0.75, -1.25, 1.75, -1.5],
    [1.0, -0.75, 0.75, -1.25],
]
SOBEL_Y = [
    [-0.75, -1.25, -1.75, -1.5],
    [-1.75, -0.25, 0.75, 0.25],
    [-0.75, -0.75, -0.25, 0.0],
    [2.0, 1.25, 1.25, 1.75],
]
CENTRAL_X = [
    [0.25, 0.5, 0.5, -0.5],
    [0.25, 0.25, 0.25, -0.5],
    [0.0, -0.75, 0.75, -0.25],
    [0.5, 0.0, 0.0, -0.5],
]
CENTRAL_Y = [
    [0.25, 0.25, 0.5, 0.5],
    [1.0, -0.25, -0.25, 0.0],
    [0.25, 0.25, 0.0, 0.0],
    [-1.0, 0.0, -0.25, -0.75],
]
SPSR_MAP = [
    [0.3535548048040077, 0.5590178888014229, 0.7071074882929752, 0.7071074882929752],
    [1.030776891475551, 0.3535548048040077, 0.3535548048040077, 0.5000009999989999],
    [0.25000199999200007, 0.7905700474973739, 0.7500006666663704, 0.25000199999200007],
    [1.118034435963401, 0.001, 0.25000199999200007, 0.9013883735660229],
]
SPSR_RING_TOP = [0.001, 0.001, 0.25000199999200007, 0.5000009999989999, 0.7500006666663704, 0.001]
SPSR_RING_LEFT = [0.001, 0.001, 0.25000199999200007, 1.000000499999875, 0.5000009999989999, 0.001]

KERNELS = {
    "sobel": ([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]]),
    "central": ([[0.0, 0, 0], [-1, 0, 1], [0, 0, 0]], [[0.0, -1, 0], [0, 0, 0], [0, 1, 0]]),
}
OPERATORS = {"sobel": sobel, "central": central}


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)[None, None]


@pytest.mark.parametrize(
    ("operator", "x", "y"), [(sobel, SOBEL_X, SOBEL_Y), (central, CENTRAL_X, CENTRAL_Y)]
)
def test_reference_values(operator, x, y):
    gradients = operator(tensor(IMAGE))
    assert torch.equal(gradients.x, tensor(x))
    assert torch.equal(gradients.y, tensor(y))


def test_spsr_maps_of_both_paddings():
    same = gradient_map(tensor(IMAGE))
    torch.testing.assert_close(same, tensor(SPSR_MAP), rtol=0, atol=1e-15)
    wider = gradient_map(tensor(IMAGE), padding=2)
    assert wider.shape == (1, 1, 6, 6)
    torch.testing.assert_close(wider[..., 1:-1, 1:-1], same, rtol=0, atol=0)
    torch.testing.assert_close(wider[0, 0, 0], tensor(SPSR_RING_TOP)[0, 0], rtol=0, atol=1e-15)
    torch.testing.assert_close(wider[0, 0, :, 0], tensor(SPSR_RING_LEFT)[0, 0], rtol=0, atol=1e-15)


def test_dggan_differences_have_the_opposite_sign_and_the_same_length(generator):
    x = torch.rand(1, 1, 6, 7, generator=generator, dtype=torch.float64)
    row = torch.tensor([1.0, 0, -1], dtype=torch.float64)
    along_x = functional.conv2d(x, row.reshape(1, 1, 1, 3), padding=(0, 1))
    along_y = functional.conv2d(x, row.reshape(1, 1, 3, 1), padding=(1, 0))
    assert torch.equal(central(x).x, -along_x)
    assert torch.equal(central(x).y, -along_y)
    assert torch.equal(magnitude(Gradients(along_x, along_y)), gradient_map(x))


@pytest.mark.parametrize("operator", ["sobel", "central"])
@pytest.mark.parametrize(
    ("border", "padding"),
    [("zero", 1), ("zero", 2), ("replicate", 1), ("replicate", 2), ("valid", 1)],
)
def test_equals_convolutions(operator, border, padding, generator):
    x = torch.rand(2, 3, 7, 9, generator=generator, dtype=torch.float64)
    ours = OPERATORS[operator](x, border=border, padding=padding)
    padded = x
    if border != "valid":
        mode = "constant" if border == "zero" else "replicate"
        padded = functional.pad(x, (padding,) * 4, mode=mode)
    for result, kernel in zip((ours.x, ours.y), KERNELS[operator], strict=True):
        weight = torch.tensor(kernel, dtype=torch.float64).expand(3, 1, 3, 3)
        expected = functional.conv2d(padded, weight, groups=3)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("operator", [sobel, central])
@pytest.mark.parametrize("border", ["zero", "replicate", "valid"])
def test_derivatives(operator, border, generator):
    x = torch.rand(1, 2, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)

    def both(t):
        gradients = operator(t, border=border)
        return gradients.x, gradients.y**2

    assert torch.autograd.gradcheck(both, x)
    assert torch.autograd.gradgradcheck(both, x)


@pytest.mark.parametrize("operator", ["sobel", "central"])
def test_the_map_has_derivatives(operator, generator):
    x = torch.rand(1, 1, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: gradient_map(t, operator=operator), x)


def test_a_flat_image_has_a_finite_derivative():
    x = torch.full((1, 3, 6, 6), 0.5, requires_grad=True)
    gradient_map(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert torch.equal(gradient_map(x)[..., 1:-1, 1:-1], torch.full((1, 3, 4, 4), 1e-6).sqrt())


def test_only_one_derivative_used(generator):
    x = torch.rand(1, 1, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: sobel(t).x, x)


@pytest.mark.parametrize("operator", [sobel, central])
def test_symmetries(operator, generator):
    x = torch.rand(2, 3, 8, 8, generator=generator)
    gradients = operator(x)
    assert torch.equal(operator(x.flip(-1)).x, -gradients.x.flip(-1))
    assert torch.equal(operator(x.flip(-2)).y, -gradients.y.flip(-2))
    assert torch.equal(operator(x[:1]).x, gradients.x[:1])
    assert gradients.x.dtype == torch.float32
    turned = operator(x.mT)
    torch.testing.assert_close(turned.x.abs(), gradients.y.mT.abs())


def test_a_recorded_graph_gives_the_same_map(generator):
    x = torch.rand(1, 3, 8, 9, generator=generator)
    recorded = torch.compile(gradient_map, backend="eager", fullgraph=True)
    assert torch.equal(recorded(x), gradient_map(x))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sobel(torch.zeros(3, 4, 4)), "(B, C, H, W)"),
        (lambda: sobel(torch.zeros(1, 3, 4, 4, dtype=torch.uint8)), "floats"),
        (lambda: sobel(torch.zeros(1, 1, 4, 4), border="mirror"), "no border 'mirror'"),
        (lambda: central(torch.zeros(1, 1, 4, 4), padding=3), "not 3"),
        (lambda: central(torch.zeros(1, 1, 4, 4), border="valid", padding=2), "pads nothing"),
        (lambda: central(torch.zeros(1, 1, 2, 4), border="valid"), "at least 3 × 3"),
        (lambda: gradient_map(torch.zeros(1, 1, 4, 4), operator="scharr"), "no operator 'scharr'"),
    ],
)
def test_errors(call, words):
    with pytest.raises(InputError) as raised:
        call()
    assert words in str(raised.value)
