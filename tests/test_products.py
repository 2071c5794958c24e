"""Products by the faster library stay float32, and leave no trace."""

import pytest
import torch

from crossseed import products


def setting():
    return torch.backends.mkldnn.matmul.fp32_precision


def processor(monkeypatch, vendor, capability):
    monkeypatch.setattr(products, "_vendor", lambda: vendor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)


@pytest.fixture
def chosen_anew():
    products.by_onednn.cache_clear()
    yield
    products.by_onednn.cache_clear()


@pytest.mark.parametrize("shape", [(40, 64, 512), (1024, 512, 64), (300, 700, 900), (17, 4096, 33)])
@pytest.mark.parametrize("turned", [False, True])
def test_products_are_as_precise_as_float32(shape, turned):
    n, d, m = shape
    torch.manual_seed(0)
    a, b = torch.randn(n, d), torch.randn(d, m)
    a, b = (a.T.contiguous().T, b.T.contiguous().T) if turned else (a, b)
    exact = a.double() @ b.double()
    plain = (a @ b - exact).norm() / exact.norm()
    out = torch.ones(n, m)
    with products.fast():
        torch.addmm(out, a, b, beta=0, out=out)
    # Operands of 8 bits would be off by 2e-3.
    assert (out - exact).norm() / exact.norm() < max(4 * plain, 1e-6)


def test_rounded_products_are_found_out():
    assert products.are_float32(torch.mm)
    assert not products.are_float32(lambda a, b: (a.bfloat16() @ b.bfloat16()).float())
    # Of 11 bits, as TF32 has.
    assert not products.are_float32(lambda a, b: a.half().float() @ b.half().float())


def test_what_was_set_is_set_again():
    before = setting()
    with pytest.raises(KeyError), products.fast():
        raise KeyError
    assert setting() == before
    # PyTorch refuses to say where backends are set apart.
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("vendor", "capability"),
    [("GenuineIntel", "AVX512"), ("AuthenticAMD", "AVX2"), ("", "DEFAULT")],
)
def test_other_processors_stay_with_what_pytorch_takes(
    monkeypatch, chosen_anew, vendor, capability
):
    processor(monkeypatch, vendor, capability)
    before = setting()
    with products.fast():
        assert setting() == before


@pytest.mark.parametrize("precise", [True, False])
def test_wide_amd_processors_take_onednn_where_that_is_float32(monkeypatch, chosen_anew, precise):
    processor(monkeypatch, "AuthenticAMD", "AVX512")
    monkeypatch.setattr(products, "are_float32", lambda multiply: precise)
    before = setting()
    with products.fast():
        assert setting() == ("bf16" if precise else before)
    assert setting() == before


def test_the_processor_has_a_name_here():
    assert products._vendor() in ("AuthenticAMD", "GenuineIntel", "")
