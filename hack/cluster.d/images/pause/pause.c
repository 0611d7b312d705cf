// The sandbox of every pod: holds the pod's namespaces, and reaps what a shared process namespace leaves to it.
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal) { (void)signal; _exit(0); }

static void reap(int signal) {
  (void)signal;
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

int main(void) {
  struct sigaction on_leave = {.sa_handler = leave}, on_child = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
  sigaction(SIGINT, &on_leave, NULL);
  sigaction(SIGTERM, &on_leave, NULL);
  sigaction(SIGCHLD, &on_child, NULL);
  for (;;) pause();
}
