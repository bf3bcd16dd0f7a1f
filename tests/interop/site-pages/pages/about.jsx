import { served } from "../../shared/served.jsx";

export { Shown as default } from "../../shared/served.jsx";

export const getStaticProps = () => ({ props: { text: served("about") } });
