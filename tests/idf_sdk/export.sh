# Sourced: puts idf.py and the Python environment into PATH.
if [ ! -x "$IDF_TOOLS_PATH/python_env/bin/python" ]; then
    echo "ERROR: ESP-IDF Python virtual environment not found" >&2
    return 1
fi
export IDF_PYTHON_ENV_PATH="$IDF_TOOLS_PATH/python_env"
export PATH="$IDF_PYTHON_ENV_PATH/bin:$IDF_PATH/tools:$PATH"
