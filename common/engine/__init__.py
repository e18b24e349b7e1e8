"""Detectron2's engine, put together once for every task."""
