// An app behind the gate, for images: it says what reached it, in the manner of traefik/whoami,
// for which it stands in. `?wait=2s` keeps the visitor waiting, as a slow page would.
//
// It is linked to nothing, so it runs in an image made from scratch.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	port := os.Getenv("WHOAMI_PORT_NUMBER")
	if port == "" {
		port = "80"
	}
	log.Fatal(http.ListenAndServe(os.Getenv("WHOAMI_ADDRESS")+":"+port, http.HandlerFunc(answer)))
}

func answer(w http.ResponseWriter, r *http.Request) {
	wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
	if err == nil {
		// Half of the answer first, so that the end of it is what somebody waits for.
		fmt.Fprintf(w, "Name: %s\n", os.Getenv("WHOAMI_NAME"))
		w.(http.Flusher).Flush()
		time.Sleep(wait)
	} else {
		fmt.Fprintf(w, "Name: %s\n", os.Getenv("WHOAMI_NAME"))
	}
	fmt.Fprintf(w, "%s %s %s\nHost: %s\n", r.Method, r.RequestURI, r.Proto, r.Host)
	_ = r.Header.Write(w)
	fmt.Fprintln(w, "End")
}
