/* What the modules in C that do the work of one in Python have in common: how they learn its names, and where they may be loaded. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

/* The value of a name, borrowed; NULL with an exception where there is none. */
static PyObject *
meaning_of(PyObject *names, const char *name)
{
    PyObject *value = PyDict_GetItemString(names, name);
    if (value == NULL) {
        PyErr_SetString(PyExc_KeyError, name);
    }
    return value;
}

/* A name, and where what it means is held; NULL for a name where the module knows by itself what to hold. */
typedef struct {
    const char *name;
    PyObject **place;
} Name;

/* The values of all names that are none of the module's own, borrowed; -1 with an exception where one has none. */
static inline int
meanings_of(PyObject *names, const Name *known, size_t count, PyObject **meanings)
{
    for (size_t i = 0; i < count; i++) {
        if (known[i].name != NULL && (meanings[i] = meaning_of(names, known[i].name)) == NULL) {
            return -1;
        }
    }
    return 0;
}

/* Hold them from now on; all before any former one is let go: that may run an application's code, which may call this again. */
static inline void
hold(const Name *known, size_t count, PyObject **meanings)
{
    for (size_t i = 0; i < count; i++) {
        PyObject *former = *known[i].place;
        *known[i].place = Py_NewRef(meanings[i]);
        meanings[i] = former;
    }
    for (size_t i = 0; i < count; i++) {
        Py_XDECREF(meanings[i]);
    }
}

/* Where the instances of a class keep a slot; -1 with an exception where it has none. */
static int
find_slot(PyObject *type, const char *name, Py_ssize_t *found)
{
    PyObject *descriptor = type == NULL ? NULL : PyObject_GetAttrString(type, name);
    if (descriptor == NULL) {
        return -1;
    }
    int is_slot = PyType_Check(type) && Py_IS_TYPE(descriptor, &PyMemberDescr_Type);
    if (is_slot) {
        *found = ((PyMemberDescrObject *)descriptor)->d_member->offset;
    }
    else {
        PyErr_Format(PyExc_TypeError, "%s is no slot", name);
    }
    Py_DECREF(descriptor);
    return is_slot ? 0 : -1;
}

/* The exception that is set, held, and set no more. */
static PyObject *
raised_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(exception, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return exception;
#endif
}

/* What all of them are to do first: -1 with an exception where this interpreter can't have them. */
static int
check_interpreter(void)
{
#ifdef Py_GIL_DISABLED
    PyErr_SetString(PyExc_ImportError, "what is shared here is guarded by the GIL");
    return -1;
#endif
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "what is shared here is the main interpreter's");
        return -1;
    }
    return 0;
}

#if PY_VERSION_HEX >= 0x030D0000
#define MODULE_SLOTS \
    {Py_mod_exec, execute}, \
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED}, \
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},  /* or a free-threaded interpreter would get its lock back, and say so */ \
    {0, NULL}
#elif PY_VERSION_HEX >= 0x030C0000
#define MODULE_SLOTS \
    {Py_mod_exec, execute}, \
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED}, \
    {0, NULL}
#else
#define MODULE_SLOTS {Py_mod_exec, execute}, {0, NULL}
#endif
