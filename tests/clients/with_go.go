// Go's x/crypto/ssh, which rclone, Teleport's tsh and Terraform stand on: exec, a terminal, streams, password.
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
)

func connect(method ssh.AuthMethod) *ssh.Client {
	config := &ssh.ClientConfig{
		User:            os.Getenv("USER_NAME"),
		Auth:            []ssh.AuthMethod{method},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	}
	client, err := ssh.Dial("tcp", "127.0.0.1:"+os.Getenv("PORT"), config)
	must(err)
	return client
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func session(client *ssh.Client) *ssh.Session {
	session, err := client.NewSession()
	must(err)
	return session
}

func main() {
	text, err := os.ReadFile(os.Getenv("KEY"))
	must(err)
	key, err := ssh.ParsePrivateKey(text)
	must(err)
	client := connect(ssh.PublicKeys(key))
	exit, ok := session(client).Run("exit 42").(*ssh.ExitError)
	if !ok || exit.ExitStatus() != 42 {
		log.Fatal("exit status")
	}
	exit, ok = session(client).Run("kill -TERM $$").(*ssh.ExitError)
	if !ok || exit.Signal() != "TERM" {
		log.Fatal("exit signal")
	}
	file, err := os.ReadFile(os.Getenv("FILE"))
	must(err)
	put := session(client)
	put.Stdin = bytes.NewReader(file)
	must(put.Run("cat >there"))
	back, err := session(client).Output("cat there")
	must(err)
	must(os.WriteFile(os.Getenv("HERE")+"/back", back, 0o600))
	terminal := session(client)
	must(terminal.RequestPty("xterm", 31, 91, ssh.TerminalModes{ssh.ECHO: 0}))
	out, err := terminal.Output("stty size; stty -a")
	must(err)
	if !strings.Contains(string(out), "31 91") || !strings.Contains(string(out), "-echo ") {
		log.Fatal(string(out))
	}
	tunnel, err := client.Dial("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	must(err)
	hello := make([]byte, 4)
	_, err = tunnel.Read(hello)
	must(err)
	client.Close()
	client = connect(ssh.Password(os.Getenv("PASSWORD")))
	name, err := session(client).Output("id -un")
	must(err)
	if strings.TrimSpace(string(name)) != os.Getenv("USER_NAME") {
		log.Fatal(string(name))
	}
	fmt.Println("all is well")
}
