"""A study's answers as people want them: conclusions, a table for notebooks and spreadsheets, files.

In a notebook::

    from service.studies.notebook import frame, run_file, table_of

    frame(run_file("expansion.yaml", "expansion.study", workers=2))  # solves what is not answered yet: a Polars frame
    frame(table_of("expansion.study"))  # the same from the folder
"""
