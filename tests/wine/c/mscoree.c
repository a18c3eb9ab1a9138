/* mscoree.dll: pykd asks it for a .NET debugging object when it starts and never uses it for a
   kernel. Wine has one only with Mono; this one answers every call with E_NOTIMPL. */
#include <windows.h>

static HRESULT WINAPI query(void *self, const IID *iid, void **out)
{
    (void)iid;
    *out = self;
    return S_OK;
}
static ULONG WINAPI count(void *self)
{
    (void)self;
    return 1;
}
static HRESULT WINAPI refuse(void *self)
{
    (void)self;
    return E_NOTIMPL;
}
static void *const methods[] = {query,  count,  count,  refuse, refuse, refuse, refuse, refuse,
                                refuse, refuse, refuse, refuse, refuse, refuse, refuse, refuse};
static const void *object = methods;

__declspec(dllexport) HRESULT WINAPI CLRCreateInstance(void *class, void *iid, void **out)
{
    (void)class;
    (void)iid;
    *out = &object;
    return S_OK;
}
