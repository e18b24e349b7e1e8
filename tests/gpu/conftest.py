"""A missing GPU is said in one line."""

from helpers.gpu import DEVICE, FOUND


def pytest_terminal_summary(terminalreporter, config):
    asked = "gpu" in config.option.markexpr.replace("not gpu", "")
    if asked and DEVICE == "cuda" and not FOUND:
        terminalreporter.write_line(
            "PyTorch finds no GPU: tests that need one were skipped; GPU_TESTS_ON=cpu runs them on the CPU"
        )
