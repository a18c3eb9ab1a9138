/* python.exe for the Windows Python core that the panda3d wheel carries: calls its Py_Main. */
#include <windows.h>

int wmain(int argc, wchar_t **argv)
{
    HMODULE core = LoadLibraryW(L"python39.dll");
    int (*run)(int, wchar_t **) = core ? (void *)GetProcAddress(core, "Py_Main") : NULL;
    return run ? run(argc, argv) : 9;
}
