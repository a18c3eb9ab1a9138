/* python.exe for the Windows Python core that the panda3d wheel carries: calls its Py_Main. */
#include <windows.h>

#define WIDE(text) L##text
#define NAME(minor) WIDE("python3" #minor ".dll")
#define EXPANDED(minor) NAME(minor)
#define CORE EXPANDED(MINOR)

int wmain(int argc, wchar_t **argv)
{
    HMODULE core = LoadLibraryW(CORE);
    int (*run)(int, wchar_t **) = core ? (void *)GetProcAddress(core, "Py_Main") : NULL;
    return run ? run(argc, argv) : 9;
}
