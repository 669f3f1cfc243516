/*
 * timer_signal.c - timers that send a signal: to the process, with a code, to the thread that made the timer, and one that
 * calls a function.
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/neutrino.h>
#include <time.h>

#include <sys/wait.h>
#include <unistd.h>

static sem_t called;

static void function(union sigval value)
{
    printf("function: value %d\n", value.sival_int);
    sem_post(&called);
}

static void shoot(const struct sigevent *event)
{
    struct sigevent copy = *event;
    struct itimerspec soon = {{0, 0}, {0, 10000000}};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &copy, &timer) == -1) {
        perror("timer_create");
        return;
    }
    timer_settime(timer, 0, &soon, NULL);
    if (SIGEV_GET_TYPE(event) == SIGEV_THREAD) {
        sem_wait(&called);
    } else {
        sigset_t set;
        siginfo_t info;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigwaitinfo(&set, &info);
        printf("signal %d: value %d code %d\n", info.si_signo == SIGUSR1, info.si_value.sival_int,
               info.si_code == SI_TIMER ? 0 : info.si_code);
    }
    timer_delete(timer);
}

int main(void)
{
    struct sigevent event;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sem_init(&called, 0, 0);
    SIGEV_SIGNAL_VALUE_INIT(&event, SIGUSR1, 5);
    shoot(&event);
    SIGEV_SIGNAL_CODE_INIT(&event, SIGUSR1, 6, -100);
    shoot(&event);
    SIGEV_SIGNAL_THREAD_INIT(&event, SIGUSR1, 7, -101);
    shoot(&event);
    SIGEV_THREAD_INIT(&event, function, 8, NULL);
    shoot(&event);

    timer_t timer;
    siginfo_t info;
    struct itimerspec soon = {{0, 0}, {0, 10000000}}, left;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    timer_create(CLOCK_MONOTONIC, NULL, &timer);
    timer_settime(timer, 0, &soon, NULL);
    sigwaitinfo(&set, &info);
    printf("no event: SIGALRM %d with the timer's number %d\n", info.si_signo == SIGALRM, info.si_value.sival_int == timer);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int gone = timer_gettime(timer, &left) == -1 && errno == EINVAL, made = timer_create(CLOCK_MONOTONIC, NULL, &timer);
        timer_settime(timer, 0, &soon, NULL);
        sigwaitinfo(&set, &info);
        printf("a child has no timers %d and makes its own: %d, which ring: %d\n", gone, made, info.si_signo == SIGALRM);
        return 0;
    }
    waitpid(child, NULL, 0);
    return 0;
}
