// An app for the tests on a real node. It says what reached it, answers slowly where it is asked to,
// and echoes whatever comes over a WebSocket. On SIGTERM it ends what it has begun.
package main

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	http.HandleFunc("/", show)
	http.HandleFunc("/slow", slow)
	http.HandleFunc("/socket", socket)
	server := &http.Server{Addr: net.JoinHostPort(os.Getenv("HOSTNAME"), os.Getenv("PORT"))}
	ended := make(chan struct{})
	go func() {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		if err := server.Shutdown(context.Background()); err != nil {
			log.Print(err)
		}
		close(ended)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-ended
}

func show(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{
		"path":          r.URL.Path,
		"authorization": r.Header.Get("Authorization"),
	})
}

// A line every tenth of a second, and a last one after ?seconds.
func slow(w http.ResponseWriter, r *http.Request) {
	seconds, _ := strconv.Atoi(r.URL.Query().Get("seconds"))
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	for time.Now().Before(end) {
		fmt.Fprintln(w, "wait")
		w.(http.Flusher).Flush()
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Fprintln(w, "done")
}

// The handshake of RFC 6455; frames go back as they came.
func socket(w http.ResponseWriter, r *http.Request) {
	digest := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	connection, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer connection.Close()
	accept := base64.StdEncoding.EncodeToString(digest[:])
	fmt.Fprintf(connection, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept)
	io.Copy(connection, buffered)
}
