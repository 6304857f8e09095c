"""A Sphinx extension: where in the course a page stands.

Above a lesson's title stands its number and part; below it, the way on with the next
lesson's question. The welcome page knows how much there is to read and to answer. What
tells of other pages is written again whenever a page has changed.
"""

import html
from pathlib import Path

from tools.course import Lesson, lessons, numbered

TALLY = '<p class="nn-tally"></p>'  # on the welcome page; progress.js fills it
STORAGE = '<script src="{}"></script>'  # before the theme's first script
TELL_OF_OTHERS = ("book/index", "book/glossary", "book/references")


def show_place(app, pagename, templatename, context, doctree):
    """Called by Sphinx for every page."""
    if not hasattr(app, "nn_lessons"):
        app.nn_lessons = {lesson.page: lesson for lesson in lessons(Path(app.srcdir))}
    there = app.nn_lessons
    if app.builder.name == "html":
        script = context["pathto"]("_static/storage.js", resource=True)
        context["metatags"] = context.get("metatags", "") + STORAGE.format(script)
    for way in ("prev", "next"):
        if context.get(way):
            page = neighbour(app, pagename, context[way]["link"])
            if page in there:
                context[f"{way}_title"] = asked(there[page])
    if "body" not in context:
        return
    body = context["body"]
    if pagename in there:
        kicker = place(there[pagename], numbered(there.values()))
        body = body.replace("<h1>", f"{kicker}\n<h1>", 1)
    context["body"] = body.replace(TALLY, tally(there.values()), 1)


def neighbour(app, pagename: str, link: str) -> str:
    """The page to which a page's link "previous" or "next" leads."""
    for page in app.nn_lessons:
        if app.builder.get_relative_uri(pagename, page) == link:
            return page
    return ""


def place(lesson: Lesson, count: int) -> str:
    """The line above a lesson's title, with what the scripts need to know of it."""
    words = f"Appendix {lesson.number}"
    if lesson.number.isdigit():
        words = f"Lesson {lesson.number} of {count}"
    if lesson.part:
        words += f" · Part {lesson.part}"
    data = {
        "lesson": lesson.name,
        "number": lesson.number,
        "title": lesson.title,
        "minutes": lesson.reading,
        "quizzes": lesson.quizzes,
        "exercises": lesson.exercises,
    }
    attributes = " ".join(f'data-{k}="{html.escape(str(v))}"' for k, v in data.items())
    return f'<p class="nn-kicker" {attributes}>{words}</p>'


def asked(lesson: Lesson) -> str:
    """A lesson's title and its question, for a link to it."""
    return (
        f"{lesson.number}\N{NO-BREAK SPACE}· {html.escape(lesson.title)} "
        f'<span class="nn-asked">{html.escape(lesson.question)}</span>'
    )


def tally(all_lessons) -> str:
    """The welcome page's line of progress: empty, with how much there is."""
    data = {
        "lessons": len(all_lessons),
        "quizzes": sum(lesson.quizzes for lesson in all_lessons),
        "exercises": sum(lesson.exercises for lesson in all_lessons),
    }
    attributes = " ".join(f'data-{k}="{v}"' for k, v in data.items())
    return f'<p class="nn-tally" {attributes}></p>'


def tell_again(app, env, added, changed, removed):
    """Called by Sphinx before it reads: the pages that tell of others, if one differs."""
    differs = added or changed or removed
    return [page for page in TELL_OF_OTHERS if differs and page in env.found_docs]


def setup(app):
    """Called by Sphinx."""
    app.connect("html-page-context", show_place)
    app.connect("env-get-outdated", tell_again)
    return {"version": "1", "parallel_read_safe": True}
