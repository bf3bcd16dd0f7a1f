import { served, shopRoute } from "../../../../shared/served.jsx";

export { Shown as default } from "../../../../shared/served.jsx";

export const getServerSideProps = ({ params }) => ({ props: { text: served(shopRoute(params.id)) } });
