"""Packages the folder ``conf`` as ``dal/conf``; all else stands in pyproject.toml."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["dal*"]), "dal.conf"], package_dir={"dal.conf": "conf"})
