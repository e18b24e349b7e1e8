"""Detectron2's engine, put together once forevery task."""
