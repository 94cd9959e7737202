from pathlib import Path

import pytest

from dal.cli.sweep import check_launcher

SLURM = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}
JOBLIB = {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"}


def test_slurm_is_refused_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"no srun on PATH.*choose cluster=local"):
        check_launcher(SLURM)
    for tool in ("srun", "sbatch"):
        with pytest.raises(SystemExit, match=f"no {tool} on PATH"):
            check_launcher(SLURM)
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    check_launcher(SLURM)


def test_no_processes_are_refused() -> None:
    with pytest.raises(SystemExit, match="n_jobs=0"):
        check_launcher(JOBLIB | {"n_jobs": 0})
    check_launcher(JOBLIB | {"n_jobs": -1})
