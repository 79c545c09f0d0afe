/* What `may_change` of sampler.py does, at half of its cost or less, and what it asks of os_threads.py.
 *
 * Line by line the same as there, where it is said why things are done. Clocks, and whatever may be replaced there, are looked up
 * by name with each use. Only the search for the agent's threads, and failures, are left to sampler.py. (For Linux: elsewhere no
 * sampler is ever found.)
 */

#include "_in_c.h"

#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The names of sampler.py, and its classes. */
static PyObject *names, *account_type, *followed_type, *budget_type;

enum {CLOCK_GETTIME, MONOTONIC, PROCESS_TIME, THREAD_TIME, GIVE_WAY, FOLLOWED, BUDGET, FRAMES_READ, IN_PYTHON, FAILED, WORDS};
static const char *const WORD_NAMES[WORDS] = {
    "clock_gettime", "monotonic", "process_time", "thread_time", "give_way", "_followed", "_budget", "_frames_read",
    "may_change_in_python", "_failed",
};
static PyObject *words[WORDS], *is_asleep_name;

enum {LOOK_SECONDS, LONGEST_WAIT, SHORTEST_WAIT, ONE_SAMPLE, KEEPS_UP, WAIT_SHARE, SAVED_WAIT, PLENTY, AT_ONCE, OFTEN, TOO_OFTEN,
      TOO_OFTEN_TO_WAIT, FORGOTTEN, BELIEVED, LONG_AGO, CONSTANTS};
static const char *const CONSTANT_NAMES[CONSTANTS] = {
    "LOOK_SECONDS", "LONGEST_WAIT", "SHORTEST_WAIT", "ONE_SAMPLE", "KEEPS_UP", "WAIT_SHARE", "SAVED_WAIT", "PLENTY", "AT_ONCE",
    "OFTEN", "TOO_OFTEN", "TOO_OFTEN_TO_WAIT", "FORGOTTEN", "BELIEVED", "LONG_AGO",
};
static double constants[CONSTANTS];

enum {NEXT_LOOK, PACE, PUT_OFF, PUT_OFF_SINCE, CLOCK, RECORDER_CLOCK, SEEN, RECORDED, FIRST_USED, FIRST_RECORDED, ASKED_USED,
      ASKED_RECORDED, ASKED_AT, USUAL, SAMPLER, RECORDER, SAVED, SAVED_AT, SLOTS};
static const struct {
    PyObject **type;
    const char *type_name, *name;
} SLOT_NAMES[SLOTS] = {
    {&account_type, "Account", "next_look"},
    {&account_type, "Account", "pace"},
    {&account_type, "Account", "put_off"},
    {&account_type, "Account", "put_off_since"},
    {&followed_type, "Followed", "clock"},
    {&followed_type, "Followed", "recorder_clock"},
    {&followed_type, "Followed", "seen"},
    {&followed_type, "Followed", "recorded"},
    {&followed_type, "Followed", "first_used"},
    {&followed_type, "Followed", "first_recorded"},
    {&followed_type, "Followed", "asked_used"},
    {&followed_type, "Followed", "asked_recorded"},
    {&followed_type, "Followed", "asked_at"},
    {&followed_type, "Followed", "usual"},
    {&followed_type, "Followed", "sampler"},
    {&followed_type, "Followed", "recorder"},
    {&budget_type, "Budget", "_saved"},
    {&budget_type, "Budget", "_saved_at"},
};
static Py_ssize_t slots[SLOTS];

#define SLOT(object, slot) (*(PyObject **)((char *)(object) + slots[slot]))

PyDoc_STRVAR(use_doc,
"use(names, /)\n--\n\n"
"Learn what the names of `sampler` mean from now on; all of them or, where it raises, none.\n\n"
"Raises:\n    KeyError: One is missing.\n    AttributeError: A class has lost a slot.\n    TypeError: It is none any more.");

static PyObject *
use(PyObject *module, PyObject *dictionary)
{
    if (!PyDict_Check(dictionary)) {
        PyErr_SetString(PyExc_TypeError, "use() takes the dictionary of a module");
        return NULL;
    }
    double values[CONSTANTS];
    for (size_t i = 0; i < CONSTANTS; i++) {
        PyObject *constant = meaning_of(dictionary, CONSTANT_NAMES[i]);
        values[i] = constant == NULL ? -1.0 : PyFloat_AsDouble(constant);
        if (values[i] == -1.0 && PyErr_Occurred()) {
            return NULL;
        }
    }
    for (size_t i = 0; i < WORDS; i++) {
        if (meaning_of(dictionary, WORD_NAMES[i]) == NULL) {
            return NULL;
        }
    }
    Py_ssize_t found[SLOTS];
    PyObject *types[SLOTS], *formers[SLOTS + 1];
    for (size_t i = 0; i < SLOTS; i++) {
        types[i] = meaning_of(dictionary, SLOT_NAMES[i].type_name);
        if (types[i] == NULL || find_slot(types[i], SLOT_NAMES[i].name, &found[i]) < 0) {
            return NULL;
        }
    }
    memcpy(constants, values, sizeof constants);
    memcpy(slots, found, sizeof slots);
    /* Held before anything is let go: that may run an application's code, which may call this again. */
    for (size_t i = 0; i < SLOTS; i++) {
        formers[i] = *SLOT_NAMES[i].type;
        *SLOT_NAMES[i].type = Py_NewRef(types[i]);
    }
    formers[SLOTS] = names;
    names = Py_NewRef(dictionary);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(formers); i++) {
        Py_XDECREF(formers[i]);
    }
    Py_RETURN_NONE;
}

/* Everything below returns -1 with an exception where it fails, and 0 or what it says where it does not. */

/* What a name means now, held. */
static PyObject *
meaning(int word)
{
    PyObject *value = PyDict_GetItemWithError(names, words[word]);
    if (value == NULL && !PyErr_Occurred()) {
        PyErr_SetObject(PyExc_NameError, words[word]);
    }
    Py_XINCREF(value);
    return value;
}

static int
number(PyObject *object, double *result)
{
    *result = object == NULL ? -1.0 : PyFloat_AsDouble(object);
    if (*result == -1.0 && (object == NULL || PyErr_Occurred())) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_AttributeError, "a slot is empty");
        }
        return -1;
    }
    return 0;
}

static int
get(PyObject *object, int slot, double *result)
{
    return number(SLOT(object, slot), result);
}

static int
set(PyObject *object, int slot, double value)
{
    PyObject *number = PyFloat_FromDouble(value);
    if (number == NULL) {
        return -1;
    }
    Py_XSETREF(SLOT(object, slot), number);
    return 0;
}

/* Call what a name means, with one argument or, where that is NULL, without. */
static int
ask(int word, PyObject *argument, double *result)
{
    PyObject *function = meaning(word);
    if (function == NULL) {
        return -1;
    }
    Py_XINCREF(argument);
    PyObject *answer = argument == NULL ? PyObject_CallNoArgs(function) : PyObject_CallOneArg(function, argument);
    Py_XDECREF(argument);
    Py_DECREF(function);
    int status = answer == NULL ? -1 : number(answer, result);
    Py_XDECREF(answer);
    return status;
}

static int
clock_of(PyObject *followed, int slot, double *result)
{
    PyObject *clock = SLOT(followed, slot);
    if (clock == NULL) {
        PyErr_SetString(PyExc_AttributeError, "no clock");
        return -1;
    }
    return ask(CLOCK_GETTIME, clock, result);
}

static int
both_clocks(PyObject *followed, double *used, double *recorded)
{
    return clock_of(followed, CLOCK, used) < 0 || clock_of(followed, RECORDER_CLOCK, recorded) < 0 ? -1 : 0;
}

static int
thread_is_asleep(PyObject *followed, int slot)
{
    PyObject *state = SLOT(followed, slot);
    if (state == NULL) {
        PyErr_SetString(PyExc_AttributeError, "no state");
        return -1;
    }
    Py_INCREF(state);
    /* A method in Python, so that signals are served, and other threads that want the GIL. */
    PyObject *answer = PyObject_CallMethodNoArgs(state, is_asleep_name);
    Py_DECREF(state);
    int asleep = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return asleep;
}

/* `Followed.note` */
static int
note(PyObject *followed, double used, double recorded)
{
    double seen, usual;
    if (get(followed, SEEN, &seen) < 0 || get(followed, USUAL, &usual) < 0) {
        return -1;
    }
    if (used <= seen) {
        return 0;
    }
    double taken = used - seen;
    usual = (usual != 0.0 ? usual : taken) * (taken > usual ? 1.02 : 0.94);
    return set(followed, USUAL, usual) < 0 || set(followed, SEEN, used) < 0 || set(followed, RECORDED, recorded) < 0 ? -1 : 0;
}

/* `Followed.has_recorded` */
static int
has_recorded(PyObject *followed)
{
    double used, recorded, first_used, first_recorded, seen, recorded_then, usual, used_now, recorded_now;
    if (clock_of(followed, RECORDER_CLOCK, &recorded) < 0 || clock_of(followed, CLOCK, &used) < 0
        || get(followed, FIRST_USED, &first_used) < 0 || get(followed, FIRST_RECORDED, &first_recorded) < 0
        || get(followed, SEEN, &seen) < 0 || get(followed, RECORDED, &recorded_then) < 0 || get(followed, USUAL, &usual) < 0) {
        return -1;
    }
    double share = (recorded - first_recorded) / (used - first_used);
    if (used - seen > constants[ONE_SAMPLE] * usual || recorded - recorded_then <= constants[KEEPS_UP] * share * (used - seen)) {
        return 0;
    }
    if (clock_of(followed, RECORDER_CLOCK, &recorded_now) < 0) {
        return -1;
    }
    if (recorded_now != recorded) {
        return 0;
    }
    if (clock_of(followed, CLOCK, &used_now) < 0) {
        return -1;
    }
    if (used_now != used) {
        return 0;
    }
    return note(followed, used, recorded) < 0 ? -1 : 1;
}

/* `Followed.stands_still` */
static int
stands_still(PyObject *followed, double now)
{
    double used, recorded, asked_used, asked_recorded, asked_at;
    if (both_clocks(followed, &used, &recorded) < 0 || get(followed, ASKED_USED, &asked_used) < 0
        || get(followed, ASKED_RECORDED, &asked_recorded) < 0 || get(followed, ASKED_AT, &asked_at) < 0) {
        return -1;
    }
    if (used != asked_used || recorded != asked_recorded) {
        asked_at = now;
        if (set(followed, ASKED_USED, used) < 0 || set(followed, ASKED_RECORDED, recorded) < 0
            || set(followed, ASKED_AT, now) < 0) {
            return -1;
        }
    }
    if (now < asked_at + constants[LOOK_SECONDS]) {
        return 0;
    }
    return note(followed, used, recorded) < 0 ? -1 : 1;
}

/* `Budget.seconds` */
static int
saved_seconds(PyObject *budget, double *saved)
{
    double now, saved_at;
    if (ask(PROCESS_TIME, NULL, &now) < 0 || get(budget, SAVED, saved) < 0 || get(budget, SAVED_AT, &saved_at) < 0) {
        return -1;
    }
    *saved = Py_MIN(constants[SAVED_WAIT], *saved + constants[WAIT_SHARE] * (now - saved_at));
    return set(budget, SAVED, *saved) < 0 || set(budget, SAVED_AT, now) < 0 ? -1 : 0;
}

/* `Budget.spend` */
static int
spend(PyObject *budget, double seconds)
{
    double saved;
    return get(budget, SAVED, &saved) < 0 || set(budget, SAVED, saved - seconds) < 0 ? -1 : 0;
}

/* The loop of `_wait`: whether the sample was over in the end, and how far it was. */
static int
wait_until_over(PyObject *followed, double frames_read, double nearly_over, double end, double *given_away, double *used)
{
    double recorded = 0.0;
    *used = 0.0;
    for (;;) {
        double used_before = *used, recorded_before = recorded, seen, given, now;
        if (both_clocks(followed, used, &recorded) < 0) {
            return -1;
        }
        if (*used == used_before && recorded == recorded_before) {
            if (ask(GIVE_WAY, NULL, &given) < 0 || clock_of(followed, CLOCK, used) < 0) {
                return -1;
            }
            *given_away += given;
        }
        int asleep = thread_is_asleep(followed, SAMPLER);
        int over = asleep > 0 ? thread_is_asleep(followed, RECORDER) : asleep;
        if (over != 0 || get(followed, SEEN, &seen) < 0) {
            return over != 0 ? over : -1;
        }
        if (!asleep && frames_read <= *used - seen && *used - seen < nearly_over) {
            return 0;
        }
        if (ask(MONOTONIC, NULL, &now) < 0) {
            return -1;
        }
        if (now >= end) {
            return 0;
        }
    }
}

/* `_wait` */
static int
wait_for_sampler(PyObject *followed, PyObject *budget, double now, int put_off)
{
    double saved, usual, share, seen, used, recorded, start, stop, given_away = 0.0;
    PyObject *frames = meaning(FRAMES_READ);
    int status = number(frames, &share);
    Py_XDECREF(frames);
    if (status < 0 || saved_seconds(budget, &saved) < 0 || get(followed, USUAL, &usual) < 0) {
        return -1;
    }
    double frames_read = put_off ? usual * share : 0.0;
    double nearly_over = saved < constants[PLENTY] ? usual - saved * constants[AT_ONCE] : 0.0;
    int enough = saved < constants[SHORTEST_WAIT];
    if (!enough && put_off) {
        if (clock_of(followed, CLOCK, &used) < 0 || get(followed, SEEN, &seen) < 0) {
            return -1;
        }
        enough = frames_read <= used - seen && used - seen < nearly_over;
    }
    if (enough) {
        return put_off ? stands_still(followed, now) : 1;
    }
    if (ask(THREAD_TIME, NULL, &start) < 0) {
        return -1;
    }
    double end = now + Py_MIN(saved, constants[LONGEST_WAIT]);
    int over = wait_until_over(followed, frames_read, nearly_over, end, &given_away, &used);
    if (over < 0 || ask(THREAD_TIME, NULL, &stop) < 0 || spend(budget, stop - start + given_away) < 0) {
        return -1;
    }
    if (over && (clock_of(followed, RECORDER_CLOCK, &recorded) < 0 || note(followed, used, recorded) < 0)) {
        return -1;
    }
    return over || !put_off;
}

/* `Account.has_put_off_enough` */
static int
has_put_off_enough(PyObject *account, double now)
{
    double put_off, since;
    if (get(account, PUT_OFF, &put_off) < 0 || get(account, PUT_OFF_SINCE, &since) < 0) {
        return -1;
    }
    if (now - put_off > constants[OFTEN]) {
        since = now;
        if (set(account, PUT_OFF_SINCE, now) < 0) {
            return -1;
        }
    }
    if (set(account, PUT_OFF, now) < 0) {
        return -1;
    }
    if (now - since > constants[LONGEST_WAIT]) {
        return 1;
    }
    return set(account, NEXT_LOOK, now) < 0 ? -1 : 0;
}

/* `may_change`, once the sampler has been found. */
static int
settle(PyObject *account, PyObject *followed, double now, int put_off)
{
    double next_look, pace, used, seen;
    if (get(account, NEXT_LOOK, &next_look) < 0 || get(account, PACE, &pace) < 0) {
        return -1;
    }
    double since = now + constants[LOOK_SECONDS] - next_look;
    double longest = pace < constants[TOO_OFTEN_TO_WAIT] ? pace * constants[BELIEVED] : constants[LONG_AGO];
    pace = Py_MAX(Py_MIN(since, longest), pace * constants[FORGOTTEN]);
    if (set(account, PACE, pace) < 0 || set(account, NEXT_LOOK, now + constants[LOOK_SECONDS]) < 0) {
        return -1;
    }
    if (pace < constants[put_off ? TOO_OFTEN : TOO_OFTEN_TO_WAIT]) {
        return 1;
    }
    if (clock_of(followed, CLOCK, &used) < 0 || get(followed, SEEN, &seen) < 0) {
        return -1;
    }
    int may = used == seen ? 1 : has_recorded(followed);
    if (may == 0) {
        PyObject *budget = meaning(BUDGET);
        if (budget != NULL && !Py_IS_TYPE(budget, (PyTypeObject *)budget_type)) {
            PyErr_SetString(PyExc_TypeError, "_budget is no Budget");
            may = -1;
        }
        else {
            may = budget == NULL ? -1 : wait_for_sampler(followed, budget, now, put_off && pace < constants[OFTEN]);
        }
        Py_XDECREF(budget);
    }
    return may != 0 ? may : has_put_off_enough(account, now);
}

/* Have sampler.py see to an exception; what it returns. */
static PyObject *
failed(void)
{
    PyObject *exception = raised_exception();
    PyObject *function = PyDict_GetItemWithError(names, words[FAILED]), *result;
    if (function == NULL) {  /* the interpreter is going away */
        PyErr_Clear();
        result = Py_NewRef(Py_True);
    }
    else {
        Py_INCREF(function);
        result = PyObject_CallOneArg(function, exception);
        Py_DECREF(function);
    }
    Py_XDECREF(exception);
    return result;
}

PyDoc_STRVAR(may_change_doc, "may_change(account, now, put_off, /)\n--\n\nDo what `sampler.may_change_in_python` does.");

static PyObject *
may_change(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (names == NULL || count != 3) {
        PyErr_SetString(PyExc_TypeError, "may_change() takes an Account, a time and a flag");
        return NULL;
    }
    int put_off = PyObject_IsTrue(arguments[2]);
    PyObject *followed = put_off < 0 ? NULL : meaning(FOLLOWED), *result;
    if (followed == NULL) {
        return NULL;
    }
    if (!Py_IS_TYPE(followed, (PyTypeObject *)followed_type) || !PyFloat_CheckExact(arguments[1])
        || !PyObject_TypeCheck(arguments[0], (PyTypeObject *)account_type)) {  /* of a module that was loaded anew, perhaps */
        PyObject *in_python = meaning(IN_PYTHON);
        result = in_python == NULL ? NULL : PyObject_Vectorcall(in_python, arguments, 3, NULL);
        Py_XDECREF(in_python);
    }
    else {
        int may = settle(arguments[0], followed, PyFloat_AS_DOUBLE(arguments[1]), put_off);
        result = may < 0 ? failed() : PyBool_FromLong(may);
    }
    Py_DECREF(followed);
    return result;
}

PyDoc_STRVAR(is_asleep_doc, "is_asleep(file, /)\n--\n\nDo what `os_threads.State.is_asleep` does.");

static PyObject *
is_asleep(PyObject *module, PyObject *file)
{
    char text[65];
    long descriptor = PyLong_AsLong(file);
    if (descriptor == -1 && PyErr_Occurred()) {
        return NULL;
    }
    ssize_t length = pread((int)descriptor, text, sizeof text - 1, 0);
    if (length < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    text[length] = '\0';
    char letter = '\0';
    for (char *end = strstr(text, ") "); end != NULL; end = strstr(end + 1, ") ")) {
        letter = end[2];  /* after the last: a thread may have that in its name */
    }
    return PyBool_FromLong(letter ? letter != 'R' && letter != 'D' : text[0] != '\0' && strcmp(text, "0") != 0);
}

PyDoc_STRVAR(give_way_doc, "give_way()\n--\n\nDo what `os_threads.give_way` does.");

static PyObject *
give_way(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &end);
    return PyFloat_FromDouble((double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) * 1e-9);
}

static PyMethodDef methods[] = {
    {"use", use, METH_O, use_doc},
    {"may_change", (PyCFunction)(void (*)(void))may_change, METH_FASTCALL, may_change_doc},
    {"is_asleep", is_asleep, METH_O, is_asleep_doc},
    {"give_way", give_way, METH_NOARGS, give_way_doc},
    {NULL, NULL, 0, NULL},
};

static int
execute(PyObject *module)
{
    if (check_interpreter() < 0) {
        return -1;
    }
    for (size_t i = 0; i < WORDS; i++) {
        if ((words[i] = PyUnicode_InternFromString(WORD_NAMES[i])) == NULL) {
            return -1;
        }
    }
    is_asleep_name = PyUnicode_InternFromString("is_asleep");
    return is_asleep_name == NULL ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {
    MODULE_SLOTS,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_sampler",
    .m_doc = "Whether a thread may change its labels.",
    .m_methods = methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__sampler(void)
{
    return PyModuleDef_Init(&module);
}
