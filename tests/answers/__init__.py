"""Answers that readers might give, by people who had not read the checkers.

A module for each lesson, of its name: WRONG and RIGHT, exercise -> its answers, at least
ten wrong ones and six right ones. `tests/lessons/test_answers.py` tries them.
"""
