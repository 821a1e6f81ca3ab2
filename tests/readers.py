"""Four solvers that read a file of MPS or LP: the optimum that each finds, None where it calls it infeasible."""

import subprocess
from pathlib import Path

import pytest


def highs(path: Path) -> float | None:
    import highspy

    solver = highspy.Highs()
    solver.silent()
    assert solver.readModel(str(path)) == highspy.HighsStatus.kOk
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.run()
    if solver.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
        return None
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return float(solver.getInfo().objective_function_value)


def scip(path: Path) -> float | None:
    pyscipopt = pytest.importorskip("pyscipopt")
    model = pyscipopt.Model()
    model.hideOutput()
    model.readProblem(str(path))
    model.setParam("limits/gap", 0.0)
    model.optimize()
    if model.getStatus() == "infeasible":
        return None
    assert model.getStatus() == "optimal"
    assert model.getObjectiveSense() == "minimize"
    return float(model.getObjVal())


def cbc(path: Path) -> float | None:
    pulp = pytest.importorskip("pulp")
    with pytest.warns(DeprecationWarning, match="PULP_CBC_CMD"):
        solver = pulp.PULP_CBC_CMD(msg=False).path
    words = [solver, str(path), "ratio", "0", "allow", "0", "solve", "solution", f"{path}.cbc"]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout
    first = Path(f"{path}.cbc").read_text().splitlines()[0]
    if "nfeasible" in first:
        return None
    assert first.startswith("Optimal"), said
    return float(first.split()[-1])


def glpk(path: Path) -> float | None:
    swiglpk = pytest.importorskip("swiglpk")
    swiglpk.glp_term_out(swiglpk.GLP_OFF)
    problem = swiglpk.glp_create_prob()
    if path.suffix == ".mps":
        failed = swiglpk.glp_read_mps(problem, swiglpk.GLP_MPS_FILE, None, str(path))
    else:
        failed = swiglpk.glp_read_lp(problem, None, str(path))
    assert not failed, f"GLPK does not read {path}"
    assert swiglpk.glp_get_obj_dir(problem) == swiglpk.GLP_MIN
    # As its own command does; its integer presolver aborts the process on some programs with free columns.
    swiglpk.glp_scale_prob(problem, swiglpk.GLP_SF_AUTO)
    swiglpk.glp_adv_basis(problem, 0)
    simplex = swiglpk.glp_smcp()
    swiglpk.glp_init_smcp(simplex)
    assert swiglpk.glp_simplex(problem, simplex) == 0
    if swiglpk.glp_get_status(problem) == swiglpk.GLP_NOFEAS:
        return None
    assert swiglpk.glp_get_status(problem) == swiglpk.GLP_OPT
    settings = swiglpk.glp_iocp()
    swiglpk.glp_init_iocp(settings)
    settings.mip_gap = 0.0
    assert swiglpk.glp_intopt(problem, settings) == 0
    if swiglpk.glp_mip_status(problem) == swiglpk.GLP_NOFEAS:
        return None
    assert swiglpk.glp_mip_status(problem) == swiglpk.GLP_OPT
    return float(swiglpk.glp_mip_obj_val(problem))


READERS = {"HiGHS": highs, "SCIP": scip, "CBC": cbc, "GLPK": glpk}
