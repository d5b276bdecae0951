from __future__ import annotations

import pytest

from tasks.adopt_weights import check_fit
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ConfigError


def test_a_champion_of_other_settings_is_refused_in_one_line() -> None:
    config = ThinkRecConfig()
    check_fit(config, config, "m/1")
    other = ThinkRecConfig.model_validate({"encoder": {"embedding_size": 8}})
    with pytest.raises(ConfigError, match=r"encoder\.embedding_size is 64, and m/1 has 8.*rerun\.start_from=nothing"):
        check_fit(config, other, "m/1")
