from __future__ import annotations

import pytest
import torch

from mars_pyg import SemanticDecoder

#: Factor 1 has no value; the values of factor 0 are 0 and 3.
FACTOR = torch.tensor([0, 2, 2, 0])


def test_linear_decoder_is_one_product() -> None:
    decoder = SemanticDecoder(3, FACTOR)
    x = torch.randn(5, 3)
    (layer,) = decoder.mlp.lins
    torch.testing.assert_close(decoder(x), x @ layer.weight.t() + layer.bias)


def test_hidden_layer() -> None:
    decoder = SemanticDecoder(3, FACTOR, hidden_channels=7)
    assert [layer.weight.shape for layer in decoder.mlp.lins] == [(7, 3), (4, 7)]
    assert decoder(torch.randn(5, 3)).shape == (5, 4)


def test_prediction_of_each_factor() -> None:
    decoder = SemanticDecoder(4, FACTOR)
    (layer,) = decoder.mlp.lins
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4))
        layer.bias.zero_()
    x = torch.tensor([[1.0, 9.0, 2.0, 3.0], [5.0, 0.0, 1.0, 4.0]])
    assert decoder.predict(x).tolist() == [[3, -1, 1], [0, -1, 2]]


def test_no_items_and_no_values() -> None:
    assert SemanticDecoder(3, FACTOR)(torch.empty(0, 3)).shape == (0, 4)
    empty = SemanticDecoder(3, FACTOR[:0])
    assert empty(torch.randn(2, 3)).shape == (2, 0)
    assert empty.predict(torch.randn(2, 3)).shape == (2, 0)


def test_reset_is_reproducible_and_factor_is_no_state() -> None:
    decoder = SemanticDecoder(3, FACTOR)
    torch.manual_seed(0)
    decoder.reset_parameters()
    first = [parameter.clone() for parameter in decoder.parameters()]
    torch.manual_seed(0)
    decoder.reset_parameters()
    assert all(map(torch.equal, first, decoder.parameters()))
    assert set(decoder.state_dict()) == {"mlp.lins.0.weight", "mlp.lins.0.bias"}


@pytest.mark.parametrize("factor", [FACTOR.int(), FACTOR.view(2, 2)])
def test_wrong_factor_is_refused(factor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="'factor'"):
        SemanticDecoder(3, factor)


def test_hidden_layer_without_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="'hidden_channels' must be positive"):
        SemanticDecoder(3, FACTOR, hidden_channels=0)
